//! Which recipe lines a vertex came from. Spec: BuildKit `solver/pb/ops.proto` `Source`.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb;
use diag::{Source, Span};
use oci::Digest;

use crate::decode::FieldError;

/// A place in a source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The text, usually a recipe.
    pub source: Source,
    /// The part of it.
    pub span: Span,
}

impl Location {
    /// The place of `span` in `source`. Ends past the text are moved to its end.
    #[must_use]
    pub fn new(source: &Source, span: Span) -> Self {
        let boundary = |offset: usize| {
            let mut offset = offset.min(source.text().len());
            while !source.text().is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        let start = boundary(span.start);
        Self { source: source.clone(), span: Span { start, end: boundary(span.end).max(start) } }
    }
}

/// From vertices to the places they came from. One vertex can come from several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    locations: BTreeMap<Digest, Vec<Location>>,
}

impl SourceMap {
    /// The places a vertex came from, in the order they were met.
    #[must_use]
    pub fn locations(&self, vertex: &Digest) -> &[Location] {
        self.locations.get(vertex).map_or(&[], Vec::as_slice)
    }

    /// Whether no vertex has a place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }

    pub(crate) fn add(&mut self, vertex: Digest, location: Location) {
        let locations = self.locations.entry(vertex).or_default();
        if !locations.contains(&location) {
            locations.push(location);
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Digest) -> bool) {
        self.locations.retain(|vertex, _| keep(vertex));
    }

    /// The wire form, for BuildKit's own error messages.
    pub(crate) fn to_pb(&self) -> pb::Source {
        let mut sources: Vec<&Source> = Vec::new();
        let mut locations = BTreeMap::new();
        for (vertex, places) in &self.locations {
            let mut encoded = Vec::with_capacity(places.len());
            for place in places {
                let index = sources.iter().position(|source| **source == place.source).unwrap_or_else(|| {
                    sources.push(&place.source);
                    sources.len() - 1
                });
                let position = |offset| {
                    let place = place.source.line_column(offset);
                    Some(pb::Position { line: number(place.line), character: number(place.column - 1) })
                };
                let range = pb::Range { start: position(place.span.start), end: position(place.span.end) };
                encoded.push(pb::Location { source_index: number(index), ranges: vec![range] });
            }
            locations.insert(vertex.to_string(), pb::Locations { locations: encoded });
        }
        let infos = sources.into_iter().map(|source| pb::SourceInfo {
            filename: source.name().to_owned(),
            data: source.text().as_bytes().to_vec(),
            definition: None,
            language: "TOML".to_owned(),
        });
        pb::Source { locations, infos: infos.collect() }
    }

    pub(crate) fn from_pb(encoded: &pb::Source) -> Result<Self, FieldError> {
        let text = |info: &pb::SourceInfo| match std::str::from_utf8(&info.data) {
            Ok(text) => Ok(Source::new(&info.filename, text)),
            Err(_) => Err(FieldError::value("source.infos.data", "bytes that are not UTF-8")),
        };
        let sources = encoded.infos.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let mut map = Self::default();
        for (vertex, places) in &encoded.locations {
            let digest = vertex.parse().map_err(|_| FieldError::value("source.locations", vertex))?;
            for place in &places.locations {
                let source = usize::try_from(place.source_index)
                    .ok()
                    .and_then(|index| sources.get(index))
                    .ok_or_else(|| FieldError::value("source.locations.sourceIndex", place.source_index))?;
                for range in &place.ranges {
                    let (Some(start), Some(end)) = (range.start, range.end) else {
                        return Err(FieldError::Missing("source.locations.ranges"));
                    };
                    let span = Span { start: offset(source, start), end: offset(source, end) };
                    map.add(digest, Location::new(source, span));
                }
            }
        }
        Ok(map)
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The byte offset of a line (from 1) and character (from 0); places past the end give the end.
fn offset(source: &Source, position: pb::Position) -> usize {
    let text = source.text();
    let line = usize::try_from(position.line).unwrap_or(0).max(1);
    let character = usize::try_from(position.character).unwrap_or(0);
    let Some(start) = (match line {
        1 => Some(0),
        _ => text.match_indices('\n').nth(line - 2).map(|(newline, _)| newline + 1),
    }) else {
        return text.len();
    };
    text[start..].char_indices().nth(character).map_or(text.len(), |(within, _)| start + within)
}
