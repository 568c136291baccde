//! The files compiled into the program.

use std::fs;
use std::path::PathBuf;

use store::{Key, Store};

use super::WorkspaceError;

mod table {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// An embedded file.
pub(crate) fn bytes(path: &str) -> Option<&'static [u8]> {
    let index = table::FILES.binary_search_by_key(&path, |(name, _)| name).ok()?;
    Some(table::FILES[index].1)
}

pub(super) fn text(path: &str) -> Option<&'static str> {
    std::str::from_utf8(bytes(path)?).ok()
}

/// What stands between `prefix` and `suffix` in the files' names, where that is one component.
pub(super) fn names<'a>(prefix: &'a str, suffix: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    let between = move |name: &'static str| name.strip_prefix(prefix)?.strip_suffix(suffix);
    table::FILES.iter().filter_map(move |(name, _)| between(name)).filter(|name| !name.contains('/'))
}

/// The files under `prefix`, by the rest of their names.
pub(crate) fn files(prefix: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    table::FILES.iter().filter_map(move |(name, bytes)| Some((name.strip_prefix(prefix)?, *bytes)))
}

/// The files under `prefix` as a directory of the store, made when it is first needed. Its name is its content's
/// digest, so programs of several versions can share a store.
pub(super) fn lay_out(prefix: &str, store: &Store) -> Result<PathBuf, WorkspaceError> {
    let key = Key::of(files(prefix).flat_map(|(name, bytes)| [name.as_bytes(), bytes]));
    let directory = store.caches().join(format!("embedded-{}", key.hex()));
    if directory.is_dir() {
        return Ok(directory);
    }
    let failed = |source| WorkspaceError::Write { path: directory.clone(), source };
    let made = tempfile::tempdir_in(store.temp()).map_err(failed)?;
    for (name, bytes) in files(prefix) {
        let path = made.path().join(name);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).map_err(failed)?;
        fs::write(path, bytes).map_err(failed)?;
    }
    match fs::rename(made.path(), &directory) {
        Ok(()) => {
            // It has another name now; there is nothing left to remove.
            let _ = made.keep();
            Ok(directory)
        }
        // Somebody else made it meanwhile.
        Err(_) if directory.is_dir() => Ok(directory),
        Err(source) => Err(failed(source)),
    }
}
