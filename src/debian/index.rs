//! Package indexes: a suite's `Packages` files, kept small.
//!
//! The texts of all packages lie in one string, and a package is a row of positions in it: Debian's main index,
//! 57 MB as text, takes about 20 MB.

use std::cmp::Ordering;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use diag::{Diagnostic, Reported, codes};
use oci::Digest;

use crate::{Compression, version};

/// The packages of one `Packages` file, sorted by name, newest version first. Cloning shares them.
#[derive(Clone, Default)]
pub struct PackageIndex(Arc<Contents>);

#[derive(Default)]
struct Contents {
    text: String,
    entries: Vec<Entry>,
    /// Virtual package names with the entry that provides them, sorted.
    provides: Vec<(Slice, u32)>,
}

/// Bytes of the index's text.
#[derive(Clone, Copy, Default)]
struct Slice {
    start: u32,
    length: u32,
}

#[derive(Clone)]
struct Entry {
    texts: [Slice; Field::COUNT],
    sha256: Digest,
    size: u64,
    installed_size: u64,
    multi_arch: MultiArch,
    priority: Priority,
    essential: bool,
}

/// The fields kept as text.
#[derive(Clone, Copy)]
enum Field {
    Package,
    Version,
    Architecture,
    Depends,
    PreDepends,
    Provides,
    Conflicts,
    Breaks,
    Filename,
    Source,
}

impl Field {
    const COUNT: usize = Self::Source as usize + 1;
}

/// How packages of one name and several architectures relate. Spec: deb-control(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// Serves only packages of its own architecture.
    #[default]
    No,
    /// As `No`, and several architectures can be installed together.
    Same,
    /// Serves packages of any architecture.
    Foreign,
    /// Serves packages of any architecture that ask with `:any`.
    Allowed,
}

/// How much a system needs a package. The most needed is the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Without it, dpkg may not work.
    Required,
    /// Expected on any Unix-like system.
    Important,
    /// A reasonably small text-mode system.
    Standard,
    /// Everything else.
    #[default]
    Optional,
}

/// One package of an index.
#[derive(Clone, Copy)]
pub struct Package<'a> {
    text: &'a str,
    entry: &'a Entry,
}

/// A package index that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Reading or decompressing it failed.
    #[error("cannot read the package index")]
    Read(#[from] io::Error),
    /// A paragraph lacks a field, or has a malformed one.
    #[error("field `{field}` of package `{package}` in the index is {problem}")]
    Field {
        /// The package, as far as known.
        package: String,
        /// The field.
        field: &'static str,
        /// `missing` or `malformed`.
        problem: &'static str,
    },
    /// A line is neither a field nor a continuation.
    #[error("line {0} of the package index is not understood")]
    Line(u64),
    /// It is larger than anything reasonable.
    #[error("the package index is larger than {0} bytes")]
    TooLarge(u64),
}

impl Reported for IndexError {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(codes::debian::INDEX, self.to_string()).caused_by(self)
    }
}

/// Debian's own main index has 57 MB.
const MAX_INDEX: u64 = 1 << 30;
const MAX_LINE: u64 = 1 << 20;

impl PackageIndex {
    /// Reads a `Packages` file.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn read(reader: impl BufRead + Send, compression: Compression) -> Result<Self, IndexError> {
        // Pass by a buffer of our own: decoders give small pieces.
        let mut reader = BufReader::with_capacity(256 << 10, compression.decoder(reader)?).take(MAX_INDEX);
        let mut builder = Builder::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            builder.line(&line)?;
        }
        if reader.limit() == 0 {
            return Err(IndexError::TooLarge(MAX_INDEX));
        }
        builder.finish()
    }

    /// How many packages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// The package at a position below [`len`](Self::len).
    #[must_use]
    pub fn get(&self, at: usize) -> Package<'_> {
        Package { text: &self.0.text, entry: &self.0.entries[at] }
    }

    /// All packages, by name, newest version first.
    pub fn iter(&self) -> impl Iterator<Item = Package<'_>> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Positions of the packages of this name, newest first.
    #[must_use]
    pub fn named(&self, name: &str) -> Range<usize> {
        let start = self.0.entries.partition_point(|entry| self.slice(entry.texts[0]) < name);
        let rest = &self.0.entries[start..];
        start..start + rest.partition_point(|entry| self.slice(entry.texts[0]) == name)
    }

    /// Positions of the packages that provide this name.
    pub fn providing(&self, name: &str) -> impl Iterator<Item = usize> {
        let start = self.0.provides.partition_point(|(provided, _)| self.slice(*provided) < name);
        self.0.provides[start..]
            .iter()
            .take_while(move |(provided, _)| self.slice(*provided) == name)
            .map(|(_, at)| *at as usize)
    }

    fn slice(&self, slice: Slice) -> &str {
        slice.of(&self.0.text)
    }
}

impl std::fmt::Debug for PackageIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackageIndex({} packages)", self.len())
    }
}

impl Slice {
    fn of(self, text: &str) -> &str {
        &text[self.start as usize..(self.start + self.length) as usize]
    }
}

impl<'a> Package<'a> {
    fn field(self, field: Field) -> &'a str {
        self.entry.texts[field as usize].of(self.text)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.field(Field::Package)
    }

    /// Its version.
    #[must_use]
    pub fn version(self) -> &'a str {
        self.field(Field::Version)
    }

    /// Its architecture, `all` included.
    #[must_use]
    pub fn architecture(self) -> &'a str {
        self.field(Field::Architecture)
    }

    /// What it depends on, as written; empty if nothing.
    #[must_use]
    pub fn depends(self) -> &'a str {
        self.field(Field::Depends)
    }

    /// What it depends on before it is unpacked.
    #[must_use]
    pub fn pre_depends(self) -> &'a str {
        self.field(Field::PreDepends)
    }

    /// Virtual packages it provides.
    #[must_use]
    pub fn provides(self) -> &'a str {
        self.field(Field::Provides)
    }

    /// What must not be installed with it.
    #[must_use]
    pub fn conflicts(self) -> &'a str {
        self.field(Field::Conflicts)
    }

    /// What it breaks.
    #[must_use]
    pub fn breaks(self) -> &'a str {
        self.field(Field::Breaks)
    }

    /// Where it lies, relative to the archive's root.
    #[must_use]
    pub fn filename(self) -> &'a str {
        self.field(Field::Filename)
    }

    /// The name of its source package.
    #[must_use]
    pub fn source(self) -> &'a str {
        match self.field(Field::Source) {
            "" => self.name(),
            source => source.split_once(' ').map_or(source, |(name, _version)| name),
        }
    }

    /// The digest of the `.deb`.
    #[must_use]
    pub fn sha256(self) -> Digest {
        self.entry.sha256
    }

    /// The length of the `.deb`, in bytes.
    #[must_use]
    pub fn size(self) -> u64 {
        self.entry.size
    }

    /// About how much it takes when installed, in KiB.
    #[must_use]
    pub fn installed_size(self) -> u64 {
        self.entry.installed_size
    }

    /// How it relates to other architectures.
    #[must_use]
    pub fn multi_arch(self) -> MultiArch {
        self.entry.multi_arch
    }

    /// How much a system needs it.
    #[must_use]
    pub fn priority(self) -> Priority {
        self.entry.priority
    }

    /// Whether it is `Essential: yes`.
    #[must_use]
    pub fn essential(self) -> bool {
        self.entry.essential
    }
}

#[derive(Default)]
struct Builder {
    index: Contents,
    draft: Draft,
    /// Lines read so far.
    lines: u64,
}

/// The paragraph being read. Its texts are already in the index.
#[derive(Default)]
struct Draft {
    texts: [Slice; Field::COUNT],
    sha256: Option<Digest>,
    size: Option<u64>,
    installed_size: u64,
    multi_arch: MultiArch,
    priority: Priority,
    essential: bool,
    begun: bool,
    /// Whether the last field's continuation lines are wanted, and which it is.
    open: Option<Field>,
}

impl Builder {
    fn line(&mut self, line: &[u8]) -> Result<(), IndexError> {
        self.lines += 1;
        let line = line.trim_ascii_end();
        match line.first() {
            None => return self.end_paragraph(),
            Some(b' ' | b'\t') => {
                // A folded relation field.
                if let Some(field) = self.draft.open {
                    let slice = self.draft.texts[field as usize];
                    let joined = format!("{} {}", slice.of(&self.index.text), self.utf8(line.trim_ascii())?);
                    self.draft.texts[field as usize] = self.push(&joined)?;
                }
                return Ok(());
            }
            Some(_) => {}
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(IndexError::Line(self.lines))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        self.draft.begun = true;
        self.draft.open = None;
        let field = match name {
            b"Package" => Field::Package,
            b"Version" => Field::Version,
            b"Architecture" => Field::Architecture,
            b"Depends" => Field::Depends,
            b"Pre-Depends" => Field::PreDepends,
            b"Provides" => Field::Provides,
            b"Conflicts" => Field::Conflicts,
            b"Breaks" => Field::Breaks,
            b"Filename" => Field::Filename,
            b"Source" => Field::Source,
            _ => return self.other_field(name, value),
        };
        let value = self.utf8(value)?.to_owned();
        self.draft.texts[field as usize] = self.push(&value)?;
        self.draft.open = Some(field);
        Ok(())
    }

    fn other_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let text = || std::str::from_utf8(value).ok();
        match name {
            b"Size" => {
                let size = text().and_then(|text| text.parse().ok());
                self.draft.size = Some(size.ok_or_else(|| self.malformed("Size", "malformed"))?);
            }
            b"SHA256" => {
                let digest = text().and_then(|text| Digest::from_hex(text).ok());
                self.draft.sha256 = Some(digest.ok_or_else(|| self.malformed("SHA256", "malformed"))?);
            }
            b"Installed-Size" => self.draft.installed_size = text().and_then(|text| text.parse().ok()).unwrap_or(0),
            b"Essential" => self.draft.essential = value == b"yes",
            b"Multi-Arch" => {
                self.draft.multi_arch = match value {
                    b"same" => MultiArch::Same,
                    b"foreign" => MultiArch::Foreign,
                    b"allowed" => MultiArch::Allowed,
                    _ => MultiArch::No,
                };
            }
            b"Priority" => {
                self.draft.priority = match value {
                    b"required" => Priority::Required,
                    b"important" => Priority::Important,
                    b"standard" => Priority::Standard,
                    _ => Priority::Optional,
                };
            }
            _ => {}
        }
        Ok(())
    }

    fn end_paragraph(&mut self) -> Result<(), IndexError> {
        if !self.draft.begun {
            return Ok(());
        }
        for (field, name) in [
            (Field::Package, "Package"),
            (Field::Version, "Version"),
            (Field::Architecture, "Architecture"),
            (Field::Filename, "Filename"),
        ] {
            if self.draft.texts[field as usize].length == 0 {
                return Err(self.malformed(name, "missing"));
            }
        }
        let sha256 = self.draft.sha256.ok_or_else(|| self.malformed("SHA256", "missing"))?;
        let size = self.draft.size.ok_or_else(|| self.malformed("Size", "missing"))?;
        let draft = std::mem::take(&mut self.draft);
        self.index.entries.push(Entry {
            texts: draft.texts,
            sha256,
            size,
            installed_size: draft.installed_size,
            multi_arch: draft.multi_arch,
            priority: draft.priority,
            essential: draft.essential,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<PackageIndex, IndexError> {
        self.end_paragraph()?;
        let mut index = self.index;
        index.text.shrink_to_fit();
        index.entries.shrink_to_fit();
        let Contents { text, entries, provides } = &mut index;
        let of = |entry: &Entry, field: Field| entry.texts[field as usize].of(text);
        entries.sort_by(|a, b| {
            of(a, Field::Package)
                .cmp(of(b, Field::Package))
                .then_with(|| version::compare(of(b, Field::Version), of(a, Field::Version)))
                .then_with(|| of(a, Field::Architecture).cmp(of(b, Field::Architecture)))
                .then_with(|| a.sha256.cmp(&b.sha256))
        });
        for (at, entry) in entries.iter().enumerate() {
            let field = entry.texts[Field::Provides as usize];
            for part in field.of(text).split(',') {
                let name = part.trim_start();
                let length = name.find([' ', '(', ':']).unwrap_or(name.len());
                // Positions are found by address: `name` is a part of `text`.
                let start = name.as_ptr() as usize - text.as_ptr() as usize;
                if length > 0 {
                    let narrow = |n: usize| u32::try_from(n).expect("texts are bounded by MAX_INDEX");
                    provides.push((Slice { start: narrow(start), length: narrow(length) }, narrow(at)));
                }
            }
        }
        provides.sort_by(|(a, at), (b, bt)| match a.of(text).cmp(b.of(text)) {
            Ordering::Equal => at.cmp(bt),
            order => order,
        });
        provides.dedup_by(|(a, at), (b, bt)| at == bt && a.of(text) == b.of(text));
        provides.shrink_to_fit();
        Ok(PackageIndex(Arc::new(index)))
    }

    fn push(&mut self, value: &str) -> Result<Slice, IndexError> {
        let (start, length) = (u32::try_from(self.index.text.len()), u32::try_from(value.len()));
        let (Ok(start), Ok(length)) = (start, length) else { return Err(IndexError::TooLarge(MAX_INDEX)) };
        self.index.text.push_str(value);
        Ok(Slice { start, length })
    }

    fn utf8<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, IndexError> {
        std::str::from_utf8(bytes).map_err(|_| IndexError::Line(self.lines))
    }

    fn malformed(&self, field: &'static str, problem: &'static str) -> IndexError {
        let package = self.draft.texts[Field::Package as usize].of(&self.index.text).to_owned();
        IndexError::Field { package, field, problem }
    }
}

#[cfg(test)]
mod tests;
