//! The modification times that are sent.

use std::collections::BTreeMap;
use std::io::{Sink, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use engine::context::Entry;
use oci::Hasher;
use rustix::fs::FileType;

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;
/// Less than this is added to a time, in nanoseconds.
const MOST: u64 = 1_000_000;

/// What is added to times of whole seconds.
///
/// The daemon keeps what it got last time, and takes a file of the same size and time for the same. Programs that
/// unpack archives or generate files often set times to whole seconds, the same ones for every version. So all files
/// of one such second get a fraction of a millisecond that follows from their names and contents: when one of them
/// changes, all are sent anew. They stay as old as each other, which `make` looks at; and layers have whole seconds.
#[derive(Debug, Default)]
pub(super) struct Times(BTreeMap<i64, i64>);

impl Times {
    /// The times for these files; the digests of those that [`needs_digest`] holds for are known.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut seconds: BTreeMap<i64, Hasher<Sink>> = BTreeMap::new();
        let whole = entries.iter().filter(|entry| needs_digest(entry));
        for (entry, digest) in whole.filter_map(|entry| Some((entry, entry.digest()?))) {
            let hasher = seconds.entry(entry.modified()).or_insert_with(|| Hasher::new(std::io::sink()));
            let path = entry.path().as_os_str().as_bytes();
            for part in [&(path.len() as u64).to_le_bytes()[..], path, digest.as_bytes()] {
                hasher.write_all(part).expect("writing to a sink cannot fail");
            }
        }
        let fraction = |hasher: Hasher<Sink>| {
            let (digest, _) = hasher.finish();
            let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
            let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % (MOST - 1) + 1;
            i64::try_from(number).expect("it is small")
        };
        Self(seconds.into_iter().map(|(second, hasher)| (second, fraction(hasher))).collect())
    }

    /// The modification time that is sent for a file, in nanoseconds since 1970.
    pub(super) fn modified(&self, entry: &Entry) -> i64 {
        let is_file = entry.file_type() == FileType::RegularFile;
        let fraction = self.0.get(&entry.modified()).filter(|_| is_file);
        entry.modified() + fraction.copied().unwrap_or(0)
    }
}

/// Whether [`Times::of`] takes more than what `stat` says of a file.
pub(super) fn needs_digest(entry: &Entry) -> bool {
    entry.modified() % SECOND == 0
}
