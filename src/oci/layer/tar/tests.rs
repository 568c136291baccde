//! The writer against Go's bytes and the `tar` crate's reading; the reader against both writers and against attacks.

use std::io::{self, Read as _};

use proptest::prelude::*;

use super::*;
use crate::Digest;
use crate::layer::testing::cases;

fn bytes_of(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    read_limited(bytes, Limits::default())
}

fn read_limited(bytes: &[u8], limits: Limits) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(bytes, limits);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(TarError::Read)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

/// 560 headers at every edge there is. The digest is that of the same headers written by Go 1.26's `archive/tar`
/// (`Format: tar.FormatPAX`, names, links, ids, times and attributes computed by the same loops).
#[test]
fn bytes_are_those_of_go() {
    let r = |text: &str, count: usize| text.repeat(count).into_bytes();
    let join = |parts: &[&[u8]]| parts.concat();
    let names: Vec<Vec<u8>> = vec![
        b"a".to_vec(),
        b"usr/bin/env".to_vec(),
        r("n", 100),
        r("n", 101),
        join(&[&r("d", 60), b"/", &r("n", 60)]),
        join(&[&r("d", 155), b"/", &r("n", 100)]),
        join(&[&r("d", 156), b"/", &r("n", 100)]),
        join(&[&r("d", 155), b"/", &r("n", 101)]),
        join(&[&r("a/", 130), b"end"]),
        "é".into(),
        b"d\xff\xfe/x".to_vec(),
        r("ü", 60),
        join(&[&r("d", 99), b"/", &r("e", 30)]),
        join(&[&r("é/", 40), b"z"]),
        b"new\nline".to_vec(),
        join(&[&r("x", 99), b"/y", &r("z", 300)]),
    ];
    let links: Vec<Vec<u8>> =
        vec![b"t".to_vec(), r("l", 100), r("l", 101), "../é".into(), join(&[&r("k", 99), b"/m", &r("j", 20)])];
    let ids = [0, 1000, (1 << 21) - 1, 1 << 21, 4_294_967_294];
    let times = [0, 1_700_000_000, (1 << 33) - 1, 1 << 33, -5];
    let mut writer = TarWriter::new(Vec::new());
    let mut index = 0_usize;
    for name in &names {
        for kind in 0..7 {
            for link in &links {
                let device = Device { major: index as u32, minor: index as u32 * 3 };
                let size = (index % 700) as u64;
                let kind = match kind {
                    0 => Kind::File { size },
                    // A hard link's target is a path of this archive, so `..` is not let through.
                    1 if link.starts_with(b"..") => Kind::Symlink { target: link.clone() },
                    1 => Kind::HardLink { target: link.clone() },
                    2 => Kind::Symlink { target: link.clone() },
                    3 => Kind::CharDevice(device),
                    4 => Kind::BlockDevice(device),
                    5 => Kind::Directory,
                    _ => Kind::Fifo,
                };
                let mut entry = Entry::directory(name.clone())
                    .with_mode((index * 37 % 4096) as u32)
                    .with_owner(ids[index % 5], ids[index / 5 % 5])
                    .with_mtime(times[index / 3 % 5]);
                entry.kind = kind;
                if index.is_multiple_of(4) {
                    entry = entry.with_capability(join(&[b"\x01\x00\x00\x02\x00\x20", &vec![0; index % 90]]));
                }
                writer.append(&entry, &mut io::repeat(b'c')).unwrap();
                index += 1;
            }
        }
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(Digest::of(&bytes).hex(), "5ce075314d060e19d643569ba9ce51ca39719b1f030bb2cd32e398b67bce1a11");
    assert_eq!(read_all(&bytes).unwrap().len(), index);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-z]{1,12}".prop_map(String::into_bytes),
        "[ -.0-~]{1,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 1..200),
    ];
    let part = part.prop_map(|mut bytes| {
        bytes.retain(|&byte| byte != 0 && byte != b'/');
        if bytes.is_empty() || bytes == b"." || bytes == b".." { b"x".to_vec() } else { bytes }
    });
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.join(&b'/'))
}

/// Names that are text, which the `tar` crate wants of what it writes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec("[a-zé ]{1,60}", 1..6).prop_map(|parts| parts.join("/").into_bytes())
}

fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let device = (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Device { major, minor });
    let kind = prop_oneof![
        3 => Just(Kind::File { size: 0 }),
        1 => Just(Kind::Directory),
        1 => name().prop_map(|target| Kind::Symlink { target }),
        1 => name().prop_map(|target| Kind::HardLink { target }),
        1 => device.clone().prop_map(Kind::CharDevice),
        1 => device.prop_map(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
    ];
    let content = prop::collection::vec(any::<u8>(), 0..1200);
    let xattrs = prop::collection::btree_map(
        "user\\.[a-z]{1,200}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..300),
        0..3,
    );
    let ids = prop_oneof![0..3000_u32, (1_u32 << 21) - 2..(1 << 21) + 2, u32::MAX - 3..u32::MAX];
    (name(), kind, content, 0..0o10000_u32, (ids.clone(), ids), -10_i64..1 << 35, xattrs).prop_map(
        |(path, kind, content, mode, (uid, gid), mtime, xattrs)| {
            let (kind, content) = match kind {
                Kind::File { .. } => (Kind::File { size: content.len() as u64 }, content),
                other => (other, Vec::new()),
            };
            (Entry { path, kind, mode, uid, gid, mtime, nanoseconds: 0, xattrs }, content)
        },
    )
}

#[test]
fn nanoseconds_are_written_where_they_are_wanted() {
    let split = format!("{}/{}", "p".repeat(90), "n".repeat(90));
    let times = [(5, 500_000_000), (-2, 250_000_000), (0, 1), (7, 0)];
    let entries = times.map(|(mtime, nanoseconds)| Entry { mtime, nanoseconds, ..Entry::file(split.clone(), 0) });
    for (precise, expected) in [(true, times), (false, times.map(|(seconds, _)| (seconds, 0)))] {
        let mut tar = TarWriter::new(Vec::new());
        if precise {
            tar = tar.with_nanoseconds();
        }
        for entry in &entries {
            tar.append_empty(entry).unwrap();
        }
        let bytes = tar.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..], Limits::default());
        for (mtime, nanoseconds) in expected {
            let entry = reader.next_entry().unwrap().unwrap();
            assert_eq!((entry.mtime, entry.nanoseconds, &entry.path[..]), (mtime, nanoseconds, split.as_bytes()));
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(entry(), 0..12)) {
        prop_assert_eq!(read_all(&bytes_of(&entries)).unwrap(), entries);
    }

    /// A reading independent of ours. (The crate cuts pax values at a line feed, so there is none here.)
    #[test]
    fn the_tar_crate_reads_the_same(mut entries in prop::collection::vec(entry(), 0..8)) {
        let whole = |path: &mut Vec<u8>| {
            path.retain(|&byte| byte != b'\n');
            super::write::check_path(path).is_ok()
        };
        entries.retain_mut(|(entry, _)| {
            entry.xattrs.clear();
            whole(&mut entry.path) && match &mut entry.kind {
                Kind::Symlink { target } | Kind::HardLink { target } => whole(target),
                _ => true,
            }
        });
        let bytes = bytes_of(&entries);
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let mut found = archive.entries().unwrap();
        for (entry, content) in &entries {
            let mut member = found.next().unwrap().unwrap();
            let path = member.path_bytes();
            prop_assert_eq!(path.strip_suffix(b"/").unwrap_or(&path), &entry.path[..]);
            prop_assert_eq!(member.header().mode().unwrap(), entry.mode);
            match &entry.kind {
                Kind::Symlink { target } | Kind::HardLink { target } => {
                    let link = member.link_name_bytes().unwrap();
                    prop_assert_eq!(&*link, &target[..]);
                }
                Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                    prop_assert_eq!(member.header().device_major().unwrap(), Some(device.major));
                    prop_assert_eq!(member.header().device_minor().unwrap(), Some(device.minor));
                }
                Kind::File { .. } | Kind::Directory | Kind::Fifo => {}
            }
            prop_assert_eq!(member.header().entry_type().as_byte(), match entry.kind {
                Kind::File { .. } => b'0', Kind::HardLink { .. } => b'1', Kind::Symlink { .. } => b'2',
                Kind::CharDevice(_) => b'3', Kind::BlockDevice(_) => b'4', Kind::Directory => b'5', Kind::Fifo => b'6',
            });
            let mut data = Vec::new();
            member.read_to_end(&mut data).unwrap();
            prop_assert_eq!(&data, content);
        }
        prop_assert!(found.next().is_none());
    }

    /// The reader takes what the `tar` crate writes in GNU form: long names and links, numbers in base 256.
    #[test]
    fn gnu_archives_are_read(path in text(), link in text(), uid in any::<u32>(), mtime in 0..1_u64 << 40) {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(::tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o120_777);
        header.set_uid(u64::from(uid));
        header.set_gid(5);
        header.set_mtime(mtime);
        let os = |bytes: &[u8]| std::path::PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
        builder.append_link(&mut header, os(&path), os(&link)).unwrap();
        let bytes = builder.into_inner().unwrap();
        let read = read_all(&bytes);
        if uid == u32::MAX {
            let refused = matches!(read, Err(TarError::Header { problem: HeaderProblem::Number("uid"), .. }));
            prop_assert!(refused);
        } else {
            let read = read.unwrap();
            prop_assert_eq!(&read[0].0.path, &path);
            prop_assert_eq!(&read[0].0.kind, &Kind::Symlink { target: link });
            prop_assert_eq!((read[0].0.uid, read[0].0.mtime, read[0].0.mode), (uid, mtime.cast_signed(), 0o777));
        }
    }

    #[test]
    fn noise_is_an_error_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_all(&bytes);
    }

    /// Damage anywhere never panics, never yields more than there is.
    #[test]
    fn damage_is_survived(entries in prop::collection::vec(entry(), 1..4), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = bytes_of(&entries);
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(read) = read_all(&bytes) {
            prop_assert!(read.len() <= bytes.len() / BLOCK);
        }
    }

    #[test]
    fn a_cut_inside_an_entry_is_noticed(entries in prop::collection::vec(entry(), 1..4), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&entries);
        let cut = cut.index(bytes.len() - 2 * BLOCK);
        match read_all(&bytes[..cut]) {
            Err(TarError::Truncated { .. } | TarError::Read(_)) => {}
            Ok(read) => {
                prop_assert!(cut % BLOCK == 0 && read.len() < entries.len());
                prop_assert_eq!(&read[..], &entries[..read.len()]);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn raw(name: &[u8], flag: u8, size: &[u8]) -> header::Block {
    let mut block = header::Block::zero();
    block.0[header::NAME][..name.len()].copy_from_slice(name);
    block.0[header::MODE].copy_from_slice(b"0000644\0");
    block.0[header::SIZE][..size.len()].copy_from_slice(size);
    block.0[header::TYPE] = flag;
    block.0[header::MAGIC].copy_from_slice(header::USTAR);
    block.seal();
    block
}

fn problem_of(blocks: &[&[u8]]) -> TarError {
    read_all(&blocks.concat()).unwrap_err()
}

#[test]
fn hostile_headers_are_refused() {
    let path_problem = |name: &[u8], flag| match problem_of(&[&raw(name, flag, b"0").0]) {
        TarError::Path { problem, .. } => problem,
        other => panic!("{other}"),
    };
    assert_eq!(path_problem(b"../etc/passwd", b'0'), PathProblem::Traversal);
    assert_eq!(path_problem(b"a/../../x", b'5'), PathProblem::Traversal);
    assert_eq!(path_problem(b"a/..", b'5'), PathProblem::Traversal);
    assert_eq!(path_problem(b"/", b'0'), PathProblem::Empty);
    assert_eq!(path_problem(b"x", b'2'), PathProblem::Empty, "a link to nothing");

    let header_problem = |block: header::Block| match problem_of(&[&block.0]) {
        TarError::Header { problem, .. } => problem,
        other => panic!("{other}"),
    };
    assert_eq!(header_problem(raw(b"s", b'S', b"0")), HeaderProblem::Sparse);
    assert_eq!(header_problem(raw(b"s", b'V', b"0")), HeaderProblem::Type(b'V'));
    assert_eq!(header_problem(raw(b"s", b'0', &[0xff; 12])), HeaderProblem::Number("size"), "a negative size");
    let mut wrong = raw(b"s", b'0', b"0");
    wrong.0[0] ^= 1;
    assert_eq!(header_problem(wrong), HeaderProblem::Checksum);

    let huge = &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(matches!(problem_of(&[&raw(b"s", b'0', huge).0]), TarError::Limit { kind: LimitKind::Bytes, .. }));
    for flag in [b'x', b'g', b'L', b'K'] {
        let error = problem_of(&[&raw(b"s", flag, huge).0]);
        assert!(matches!(error, TarError::Limit { kind: LimitKind::ExtendedHeader, .. }), "{error}");
    }
    // Extended headers with nothing behind them.
    let mut records = [0; BLOCK];
    records[..9].copy_from_slice(b"9 path=a\n");
    assert!(matches!(problem_of(&[&raw(b"s", b'x', b"11").0, &records]), TarError::Truncated { .. }));
    // A pax size that contradicts the header's: the record counts, as for every other reader.
    records[..12].copy_from_slice(b"12 size=999\n");
    let error = problem_of(&[&raw(b"s", b'x', b"14").0, &records, &raw(b"s", b'0', b"0").0]);
    assert!(matches!(error, TarError::Read(_)), "{error}");
    records[..26].copy_from_slice(b"26 GNU.sparse.name=abcdef\n");
    let error = problem_of(&[&raw(b"s", b'x', b"32").0, &records, &raw(b"s", b'0', b"0").0]);
    assert!(matches!(error, TarError::Header { problem: HeaderProblem::Sparse, .. }), "{error}");
    records[..11].copy_from_slice(b"10 path=\0a\n");
    let error = problem_of(&[&raw(b"s", b'x', b"13").0, &records, &raw(b"s", b'0', b"0").0]);
    assert!(matches!(error, TarError::Header { problem: HeaderProblem::PaxRecord, .. }), "{error}");
}

#[test]
fn limits_hold() {
    let files: Vec<_> = (0..10).map(|n| (Entry::file(format!("f{n}"), 100), vec![0; 100])).collect();
    let bytes = bytes_of(&files);
    let limits = Limits { entries: 9, ..Limits::default() };
    assert!(matches!(read_limited(&bytes, limits), Err(TarError::Limit { kind: LimitKind::Entries, limit: 9 })));
    let limits = Limits { bytes: 999, ..Limits::default() };
    assert!(matches!(read_limited(&bytes, limits), Err(TarError::Limit { kind: LimitKind::Bytes, limit: 999 })));
    let limits = Limits { path: 1, ..Limits::default() };
    let error = read_limited(&bytes, limits).unwrap_err();
    assert!(matches!(error, TarError::Path { problem: PathProblem::TooLong, .. }), "{error}");
    assert_eq!(read_limited(&bytes, Limits { entries: 10, bytes: 1000, path: 2, ..Limits::default() }).unwrap(), files);
}

#[test]
fn what_a_tar_cannot_hold_is_refused() {
    let append = |entry: Entry| TarWriter::new(Vec::new()).append_empty(&entry).unwrap_err();
    for (path, expected) in [
        ("", PathProblem::Empty),
        ("/a", PathProblem::NotNormal),
        ("a/", PathProblem::NotNormal),
        ("a//b", PathProblem::NotNormal),
        ("./a", PathProblem::NotNormal),
        ("a/../b", PathProblem::Traversal),
        ("a\0b", PathProblem::Nul),
    ] {
        assert!(
            matches!(append(Entry::directory(path)), TarError::Path { problem, .. } if problem == expected),
            "{path}"
        );
        assert!(
            matches!(append(Entry::hard_link("ok", path)), TarError::Path { problem, .. } if problem == expected),
            "{path}"
        );
    }
    assert!(matches!(append(Entry::file("short", 5)), TarError::Shrunk { expected: 5, found: 0, .. }));
    let mut device = Entry::directory("dev");
    device.kind = Kind::CharDevice(Device { major: 1 << 21, minor: 0 });
    assert!(matches!(append(device), TarError::Header { problem: HeaderProblem::Number(_), .. }));
}

#[test]
fn whiteouts_are_empty_files_of_nobody() {
    let whiteout = Entry::whiteout("usr/bin/perl");
    assert_eq!(whiteout, Entry::file("usr/bin/.wh.perl", 0).with_mode(0));
    assert_eq!(Entry::whiteout("x").path, b".wh.x");
}

#[test]
fn foreign_names_become_normal() {
    let read = read_all(&[&raw(b".//usr/./bin//", b'5', b"0").0[..], &raw(b"./", b'5', b"0").0].concat()).unwrap();
    assert_eq!(read[0].0.path, b"usr/bin");
    assert_eq!((read[1].0.path.len(), &read[1].0.kind), (0, &Kind::Directory));
}
