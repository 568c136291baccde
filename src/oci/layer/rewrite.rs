//! Layers of others, in the byte form of ours.

use std::io::{Read, Write};

use super::tar::{CAPABILITY, Entry, Kind, TarError, TarReader, TarWriter, WHITEOUT_PREFIX, split};

/// Copies the entries of one archive into another: times are cut down to `epoch` (seconds since 1970), and what a layer
/// of ours does not hold (the root, attributes other than file capabilities, owners of whiteouts) is left out. The
/// order stays. Gives the number of entries written; the archive is not ended.
///
/// A layer that BuildKit wrote becomes, byte for byte, the layer that [`write_layer`](super::diff::write_layer) makes
/// of the same changes.
///
/// # Errors
/// [`TarError`].
pub fn rewrite<R: Read, W: Write>(
    source: &mut TarReader<R>,
    epoch: Option<i64>,
    tar: &mut TarWriter<W>,
) -> Result<u64, TarError> {
    let mut written = 0;
    while let Some(mut entry) = source.next_entry()? {
        if entry.path.is_empty() {
            continue;
        }
        normalise(&mut entry, epoch);
        tar.append(&entry, source)?;
        written += 1;
    }
    Ok(written)
}

fn normalise(entry: &mut Entry, epoch: Option<i64>) {
    let (parent, name) = split(&entry.path);
    if let (Kind::File { size: 0 }, Some(removed)) = (&entry.kind, name.strip_prefix(WHITEOUT_PREFIX)) {
        let separator: &[u8] = if parent.is_empty() { b"" } else { b"/" };
        *entry = Entry::whiteout([parent, separator, removed].concat());
        return;
    }
    entry.mtime = epoch.map_or(entry.mtime, |epoch| entry.mtime.min(epoch));
    entry.xattrs.retain(|name, value| name == CAPABILITY && !value.is_empty());
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::layer::tar::Limits;

    #[test]
    fn only_what_a_layer_holds_is_kept() {
        let mut tagged = Entry::file("a/file", 3).with_mtime(900).with_owner(7, 8).with_capability("cap");
        tagged.xattrs.insert(b"user.note".to_vec(), b"x".to_vec());
        let mut theirs = TarWriter::new(Vec::new());
        theirs.append_empty(&Entry::directory("a").with_mtime(100)).unwrap();
        theirs.append(&tagged, &mut &b"abc"[..]).unwrap();
        let removed = Entry::whiteout("a/gone").with_mode(0o600).with_owner(1, 1).with_mtime(900);
        theirs.append_empty(&removed).unwrap();
        theirs.append_empty(&Entry::hard_link("link", "a/file").with_mtime(900)).unwrap();
        let theirs = theirs.finish().unwrap();

        let mut expected = TarWriter::new(Vec::new());
        expected.append_empty(&Entry::directory("a").with_mtime(100)).unwrap();
        let file = Entry::file("a/file", 3).with_mtime(500).with_owner(7, 8).with_capability("cap");
        expected.append(&file, &mut &b"abc"[..]).unwrap();
        expected.append_empty(&Entry::whiteout("a/gone")).unwrap();
        expected.append_empty(&Entry::hard_link("link", "a/file").with_mtime(500)).unwrap();

        let mut ours = TarWriter::new(Vec::new());
        let mut reader = TarReader::new(io::Cursor::new(theirs), Limits::default());
        assert_eq!(rewrite(&mut reader, Some(500), &mut ours).unwrap(), 4);
        assert!(ours.finish().unwrap() == expected.finish().unwrap());
    }
}
