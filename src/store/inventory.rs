//! Everything in the store, when it was last used, and what names what.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::record;
use crate::usage::Measure;
use crate::{Bucket, StoreError};

/// Blobs longer than this are no documents. Registries accept none longer either.
const LONGEST_DOCUMENT: u64 = 4 << 20;

/// What a thing is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A record, in the directory of its bucket.
    Record {
        bucket: String,
    },
    Blob,
    Snapshot,
    Cache,
}

/// One thing that is kept or removed as a whole.
#[derive(Debug)]
pub(crate) struct Thing {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// Disk space.
    pub(crate) bytes: u64,
    /// Its last use, or that of something that names it if that is later.
    pub(crate) used: SystemTime,
    /// Whether a record says that this blob was downloaded.
    pub(crate) is_download: bool,
    /// The things it names: indices into [`Inventory::things`].
    pub(crate) names: Vec<usize>,
}

/// All things.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) things: Vec<Thing>,
    /// Records that cannot be read, and buckets of other versions: of no use to anybody.
    pub(crate) rubbish: Vec<PathBuf>,
}

impl Inventory {
    /// Looks at everything below `root`. What others remove meanwhile is left out.
    pub(crate) fn take(root: &Path) -> Result<Self, StoreError> {
        let mut inventory = Self::default();
        let mut measure = Measure::default();
        let mut by_name = HashMap::new();
        let kinds = [(Kind::Blob, "blobs/sha256"), (Kind::Snapshot, "snapshots"), (Kind::Cache, "cache")];
        for (kind, directory) in kinds {
            for path in entries(&root.join(directory))? {
                let bytes = measure.tree(&path).map_err(StoreError::io("read", &path))?;
                let (Some(used), Some(name)) = (modified(&path), path.file_name().and_then(|name| name.to_str()))
                else {
                    continue;
                };
                match kind {
                    Kind::Blob => by_name.insert(format!("sha256:{name}"), inventory.things.len()),
                    Kind::Snapshot => by_name.insert(name.to_owned(), inventory.things.len()),
                    Kind::Cache | Kind::Record { .. } => None,
                };
                let kind = kind.clone();
                inventory.things.push(Thing { kind, path, bytes, used, is_download: false, names: Vec::new() });
            }
        }
        inventory.read_documents(&by_name);
        inventory.take_records(root, &mut measure, &by_name)?;
        inventory.spread_uses();
        Ok(inventory)
    }

    /// Finds what manifests and indexes among the blobs name.
    fn read_documents(&mut self, by_name: &HashMap<String, usize>) {
        for thing in self.things.iter_mut().filter(|thing| thing.kind == Kind::Blob) {
            if let Some(document) = document(&thing.path) {
                collect(&document, by_name, &mut thing.names);
            }
        }
    }

    fn take_records(
        &mut self,
        root: &Path,
        measure: &mut Measure,
        by_name: &HashMap<String, usize>,
    ) -> Result<(), StoreError> {
        for directory in entries(&root.join("records"))? {
            let bucket = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if !Bucket::ALL.iter().any(|known| known.directory() == bucket) {
                self.rubbish.push(directory);
                continue;
            }
            for fan in entries(&directory)? {
                for path in entries(&fan)? {
                    let (Some(used), Ok(bytes)) = (modified(&path), fs::read(&path)) else { continue };
                    let Some(value) = record::parse::<Value>(&bytes) else {
                        self.rubbish.push(path);
                        continue;
                    };
                    let bytes = fs::symlink_metadata(&path).map_or(0, |meta| measure.file(&meta));
                    let mut names = Vec::new();
                    collect(&value, by_name, &mut names);
                    if bucket == Bucket::Downloads.directory() {
                        for named in &names {
                            self.things[*named].is_download = true;
                        }
                    }
                    let kind = Kind::Record { bucket: bucket.clone() };
                    self.things.push(Thing { kind, path, bytes, used, is_download: false, names });
                }
            }
        }
        Ok(())
    }

    /// What a used thing names is used, through manifests and indexes too.
    fn spread_uses(&mut self) {
        let mut pending: Vec<usize> = (0..self.things.len()).filter(|i| !self.things[*i].names.is_empty()).collect();
        while let Some(thing) = pending.pop() {
            let used = self.things[thing].used;
            for position in 0..self.things[thing].names.len() {
                let named = self.things[thing].names[position];
                if self.things[named].used < used {
                    self.things[named].used = used;
                    pending.push(named);
                }
            }
        }
    }
}

/// The entries of a directory, sorted; none if it is not there.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        result => result.map_err(StoreError::io("read", directory))?,
    };
    let mut paths = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StoreError::io("read", directory))?;
    paths.sort();
    Ok(paths)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).ok()?.modified().ok()
}

/// The blob's JSON, if it is a document.
fn document(path: &Path) -> Option<Value> {
    let mut file = fs::File::open(path).ok()?;
    if file.metadata().ok()?.len() > LONGEST_DOCUMENT {
        return None;
    }
    let mut first = [0];
    file.read_exact(&mut first).ok()?;
    if first != *b"{" {
        return None;
    }
    let mut bytes = first.to_vec();
    file.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Everything among `by_name` that a string in `value` names.
fn collect(value: &Value, by_name: &HashMap<String, usize>, found: &mut Vec<usize>) {
    match value {
        Value::String(text) => found.extend(by_name.get(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, by_name, found)),
        Value::Object(map) => {
            for (key, item) in map {
                found.extend(by_name.get(key));
                collect(item, by_name, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
