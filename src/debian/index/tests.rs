use std::io::Read;

use diag::{Reported, codes};
use proptest::prelude::*;

use super::*;

const TEXT: &str = "\
Package: b
Version: 2
Architecture: amd64
Provides: v (= 1), w:any
Filename: pool/b_2.deb
Size: 7
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
Essential: yes
Priority: required
Multi-Arch: same
Installed-Size: 12
Source: bee (1.9)
Description: ignored
 and so is this

Package: a
Version: 1~rc1
Architecture: all
Depends: x,
 y (>= 2) |
 z
Provides: v
Filename: pool/a.deb
Size: 1
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855


Package: a
Version: 1
Architecture: all
Filename: pool/a1.deb
Size: 1
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
";

fn read(text: &str) -> Result<PackageIndex, IndexError> {
    PackageIndex::read(text.as_bytes(), Compression::Plain)
}

#[test]
fn packages_are_found_by_name_and_by_what_they_provide() {
    let index = read(TEXT).unwrap();
    assert_eq!(index.len(), 3);
    let versions: Vec<&str> = index.named("a").map(|at| index.get(at).version()).collect();
    assert_eq!(versions, ["1", "1~rc1"], "newest first");
    assert!(index.named("c").is_empty() && index.named("").is_empty());
    let providers: Vec<&str> = index.providing("v").map(|at| index.get(at).name()).collect();
    assert_eq!(providers, ["a", "b"]);
    assert_eq!(index.providing("w").count(), 1);
    assert_eq!(index.providing("x").count(), 0);

    let b = index.get(index.named("b").start);
    assert_eq!((b.architecture(), b.filename(), b.size(), b.sha256()), ("amd64", "pool/b_2.deb", 7, Digest::of(b"")));
    assert_eq!((b.source(), b.installed_size(), b.essential()), ("bee", 12, true));
    assert_eq!((b.multi_arch(), b.priority(), b.depends()), (MultiArch::Same, Priority::Required, ""));
    let a = index.get(index.named("a").start + 1);
    assert_eq!(a.depends(), "x, y (>= 2) | z", "folded lines are joined");
    assert_eq!((a.source(), a.priority(), a.essential()), ("a", Priority::Optional, false));
}

#[test]
fn every_compression_gives_the_same() {
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(TEXT.as_bytes(), 1).read_to_end(&mut xz).unwrap();
    let mut gzip = Vec::new();
    flate2::read::GzEncoder::new(TEXT.as_bytes(), flate2::Compression::fast()).read_to_end(&mut gzip).unwrap();
    for (bytes, compression) in [(xz, Compression::Xz), (gzip, Compression::Gzip)] {
        assert_eq!(PackageIndex::read(&bytes[..], compression).unwrap().len(), 3);
        let cut = &bytes[..bytes.len() / 2];
        let error = PackageIndex::read(cut, compression).unwrap_err();
        assert_eq!(error.diagnostic().code, codes::debian::INDEX);
    }
}

#[test]
fn incomplete_paragraphs_are_refused() {
    for (field, problem) in [
        ("Package", "missing"),
        ("Version", "missing"),
        ("Filename", "missing"),
        ("Size", "missing"),
        ("SHA256", "missing"),
    ] {
        let text: String = TEXT
            .lines()
            .filter(|line| !line.starts_with(&format!("{field}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        match read(&text).unwrap_err() {
            IndexError::Field { field: found, problem: how, .. } => assert_eq!((found, how), (field, problem)),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(
        read(&TEXT.replace("Size: 7", "Size: seven")),
        Err(IndexError::Field { field: "Size", problem: "malformed", .. })
    ));
    assert!(matches!(read("Package: a\nnonsense\n"), Err(IndexError::Line(2))));
    assert!(read("").unwrap().is_empty());
}

proptest! {
    #[test]
    fn no_text_is_too_odd(lines in prop::collection::vec("(Package|Version|Provides|Depends|Size|SHA256|Filename| |X)?:? ?[a-z0-9,(=) é]{0,12}", 0..40)) {
        // Either outcome is fine; what counts is that it comes, and that what was read can be looked at.
        if let Ok(index) = read(&lines.join("\n")) {
            for package in index.iter() {
                prop_assert!(index.named(package.name()).any(|at| index.get(at).version() == package.version()));
            }
        }
    }
}
