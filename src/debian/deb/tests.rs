use std::io::Read;
use std::process::Command;

use oci::Digest;
use oci::layer::tar::Entry;
use proptest::prelude::*;

use super::{Control, Deb, DebError, Limits};
use crate::fixture::{ar, tar};

const CONTROL: &[u8] = b"Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: y\n";

fn control() -> Vec<u8> {
    tar(&[(Entry::file("control", 0), CONTROL), (Entry::file("md5sums", 0), b"0  usr/a\n")])
}

fn data() -> Vec<u8> {
    tar(&[
        (Entry::directory("usr"), b""),
        (Entry::file("usr/a", 0), b"hello"),
        (Entry::symlink("usr/b", "a"), b""),
        (Entry::hard_link("usr/c", "usr/a"), b""),
    ])
}

fn deb() -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control()), ("data.tar", &data())])
}

fn read(bytes: &[u8]) -> Result<(Control, Vec<String>), DebError> {
    let limits = Limits { entries: 1000, bytes: 1 << 20 };
    let mut seen = Vec::new();
    let (control, digest, size) = Deb::open(bytes, limits)?.unpack(|entry, content| {
        let mut text = String::new();
        content.read_to_string(&mut text).map_err(DebError::Read)?;
        seen.push(format!("{}={text}", entry.display_path()));
        Ok::<(), DebError>(())
    })?;
    assert_eq!((digest, size), (Digest::of(bytes), bytes.len() as u64));
    Ok((control, seen))
}

#[test]
fn a_package_is_read_whatever_its_compression() {
    let xz = |bytes: &[u8]| {
        let mut out = Vec::new();
        liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
        out
    };
    let gzip = |bytes: &[u8]| {
        let mut out = Vec::new();
        flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
        out
    };
    let zst = zstd::encode_all(&data()[..], 1).unwrap();
    for archive in [
        deb(),
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &gzip(&control())), ("data.tar.xz", &xz(&data()))]),
        ar(&[
            ("debian-binary/", b"2.1\n"),
            ("_odd", b"x"),
            ("control.tar.xz/", &xz(&control())),
            ("data.tar.zst/", &zst),
            ("more", b""),
        ]),
    ] {
        let (control, seen) = read(&archive).unwrap();
        assert_eq!(control.fields.get("Package"), Some("demo"));
        assert_eq!(control.files["md5sums"], b"0  usr/a\n");
        assert_eq!(seen, ["usr=", "usr/a=hello", "usr/b=", "usr/c="]);
    }
}

#[test]
fn a_package_of_dpkg_is_read() {
    let directory = std::env::temp_dir().join(format!("clawbuild-deb-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("tree/DEBIAN")).unwrap();
    std::fs::create_dir_all(directory.join("tree/usr/share")).unwrap();
    std::fs::write(directory.join("tree/DEBIAN/control"), CONTROL).unwrap();
    let long = format!("usr/share/{}", "long".repeat(40));
    std::fs::write(directory.join("tree").join(&long), "content").unwrap();
    for compression in ["xz", "gzip", "zstd", "none"] {
        let file = directory.join("demo.deb");
        let status = Command::new("dpkg-deb")
            .arg(format!("-Z{compression}"))
            .arg("-b")
            .arg(directory.join("tree"))
            .arg(&file)
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        let (_, seen) = read(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(seen, ["=".to_owned(), "usr=".to_owned(), "usr/share=".to_owned(), format!("{long}=content")]);
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_is_no_package_is_refused() {
    let (control, data) = (control(), data());
    let marker = ("debian-binary", &b"2.0\n"[..]);
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("not an archive", b"PK\x03\x04 something".to_vec()),
        ("no members", b"!<arch>\n".to_vec()),
        ("another format", ar(&[("debian-binary", b"3.0\n"), ("control.tar", &control), ("data.tar", &data)])),
        ("wrong order", ar(&[marker, ("data.tar", &data), ("control.tar", &control)])),
        ("no data", ar(&[marker, ("control.tar", &control)])),
        ("unknown compression", ar(&[marker, ("control.tar", &control), ("data.tar.lz4", &data)])),
        ("no control file", ar(&[marker, ("control.tar", &tar(&[])), ("data.tar", &data)])),
        ("compressed garbage", ar(&[marker, ("control.tar", &control), ("data.tar.xz", b"garbage")])),
    ];
    for (name, bytes) in cases {
        assert!(read(&bytes).is_err(), "{name}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let whole = deb();
    let end = whole.len() - 1024;
    for length in (0..end).step_by(37) {
        assert!(read(&whole[..length]).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn bombs_and_traversals_are_refused() {
    let bomb = zstd::encode_all(std::io::repeat(0).take(8 << 20), 3).unwrap();
    let control = control();
    let with = |name: &str, data: &[u8]| ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (name, data)]);
    assert!(bomb.len() < 4096);
    assert!(read(&with("data.tar.zst", &bomb)).is_err());
    let huge = tar(&[(Entry::file("big", 0), &vec![0; 2 << 20])]);
    assert!(read(&with("data.tar.zst", &zstd::encode_all(&huge[..], 3).unwrap())).is_err());
    // The writer refuses such names itself: change one in place, and its checksum with it.
    let mut evil = tar(&[(Entry::file("xx/evil", 0), b"")]);
    evil[0..2].copy_from_slice(b"..");
    let sum: u32 =
        evil[..512].iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
    evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = read(&with("data.tar", &evil)).unwrap_err();
    assert!(matches!(&error, DebError::Tar(inner) if inner.to_string().contains("leads out")), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packages_never_panic(at in 0usize..4000, byte: u8, cut in 0usize..6000) {
        let mut bytes = deb();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(1));
        // Either outcome is fine; what counts is that it comes.
        let _ = Deb::open(&bytes[..], Limits { entries: 100, bytes: 1 << 20 }).and_then(|deb| deb.unpack(|_, content| {
            std::io::copy(content, &mut std::io::sink()).map(drop).map_err(DebError::Read)
        }));
    }
}
