use diag::{Reported, codes};
use oci::Digest;

use super::{Keyring, Release, ReleaseError};
use crate::Compression;

const INRELEASE: &[u8] = include_bytes!("../fixtures/InRelease");
const WEAK: &[u8] = include_bytes!("../fixtures/InRelease.sha1");
const RELEASE: &[u8] = include_bytes!("../fixtures/Release");
const SIGNATURE: &[u8] = include_bytes!("../fixtures/Release.gpg");
const ARCHIVE: &[u8] = include_bytes!("../fixtures/archive.asc");
const STRANGER: &[u8] = include_bytes!("../fixtures/stranger.gpg");

/// 2025-01-02, while the fixture is valid.
const THEN: i64 = 1_735_776_000;
const DAY: i64 = 86_400;

fn keyring(keys: &[(&str, &[u8])]) -> Keyring {
    let mut keyring = Keyring::default();
    for (name, bytes) in keys {
        keyring.add(name, bytes).expect("a usable keyring");
    }
    keyring
}

#[test]
fn a_signed_release_is_read() {
    let release = Release::verify(INRELEASE, &keyring(&[("archive.asc", ARCHIVE)]), Some(THEN)).expect("it verifies");
    assert_eq!((release.suite.as_str(), release.codename.as_str()), ("stable", "fixture"));
    assert_eq!(release.date, THEN - DAY / 2);
    assert_eq!(release.components, ["main", "contrib"]);
    assert_eq!(release.signers.len(), 1);
    assert_eq!(release.signers[0].owner, "Fixture Archive <archive@example.invalid>");
    let index = release.packages("main", "amd64").expect("it is listed");
    assert_eq!(index.compression, Compression::Xz);
    assert_eq!(index.size, 9_678_380);
    assert_eq!(
        index.path,
        "main/binary-amd64/by-hash/SHA256/7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498"
    );
    assert_eq!(release.files["main/binary-amd64/Packages"].sha256, Digest::of(b""));
    let error = release.packages("main", "mips").expect_err("not there");
    assert_eq!(error.diagnostic().code, codes::debian::NOT_LISTED);
}

#[test]
fn a_detached_signature_does_the_same() {
    let keyring = keyring(&[("archive.asc", ARCHIVE)]);
    let detached = Release::verify_detached(RELEASE, SIGNATURE, &keyring, Some(THEN)).expect("it verifies");
    let inline = Release::verify(INRELEASE, &keyring, Some(THEN)).expect("it verifies");
    assert_eq!(detached.files, inline.files);
    let mut changed = RELEASE.to_vec();
    changed[10] ^= 1;
    let error = Release::verify_detached(&changed, SIGNATURE, &keyring, Some(THEN)).expect_err("changed");
    assert!(matches!(error, ReleaseError::BadSignature { .. }), "{error}");
}

#[test]
fn a_binary_keyring_and_a_second_signer_do_too() {
    let both = keyring(&[("archive.asc", ARCHIVE), ("stranger.gpg", STRANGER)]);
    assert_eq!(Release::verify(INRELEASE, &both, Some(THEN)).expect("it verifies").signers.len(), 2);
}

#[test]
fn a_changed_text_is_refused_whoever_signed_it() {
    let keyring = keyring(&[("archive.asc", ARCHIVE)]);
    let text = String::from_utf8(INRELEASE.to_vec()).expect("ASCII");
    let changed = text.replace("9678380", "9678381");
    let error = Release::verify(changed.as_bytes(), &keyring, Some(THEN)).expect_err("changed");
    assert_eq!(error.diagnostic().code, codes::debian::SIGNATURE);
    let unsigned = Release::verify(RELEASE, &keyring, Some(THEN)).expect_err("unsigned");
    assert_eq!(unsigned.diagnostic().code, codes::debian::SIGNATURE);
}

#[test]
fn text_around_the_signed_part_is_never_taken_in() {
    let keyring = keyring(&[("archive.asc", ARCHIVE)]);
    let text = String::from_utf8(INRELEASE.to_vec()).expect("ASCII");
    for forged in [format!("Suite: forged\n\n{text}"), format!("{text}\nSuite: forged\n")] {
        if let Ok(release) = Release::verify(forged.as_bytes(), &keyring, Some(THEN)) {
            assert_eq!(release.suite, "stable");
        }
    }
}

#[test]
fn strangers_weak_hashes_and_late_hours_are_refused() {
    let code = |bytes, keys: &Keyring, now| Release::verify(bytes, keys, now).expect_err("refused").diagnostic().code;
    let trusted = keyring(&[("archive.asc", ARCHIVE)]);
    assert_eq!(code(INRELEASE, &Keyring::default(), Some(THEN)), codes::debian::UNKNOWN_KEY);
    assert_eq!(code(WEAK, &keyring(&[("stranger.gpg", STRANGER)]), Some(THEN)), codes::debian::UNKNOWN_KEY);
    assert_eq!(code(WEAK, &trusted, Some(THEN)), codes::debian::SIGNATURE);
    assert_eq!(code(INRELEASE, &trusted, Some(THEN + 30 * DAY)), codes::debian::EXPIRED);
    assert_eq!(
        code(INRELEASE, &trusted, Some(THEN + 6 * 365 * DAY)),
        codes::debian::EXPIRED,
        "the subkey ends after five years"
    );
    Release::verify(INRELEASE, &trusted, None).expect("nothing expires without a clock");
}

#[test]
fn a_keyring_must_hold_keys() {
    let error = Keyring::default().add("junk.asc", b"nothing").expect_err("no key");
    assert_eq!(error.diagnostic().code, codes::debian::KEYRING);
    assert!(Keyring::default().add("Release.gpg", SIGNATURE).is_err());
}

#[test]
fn the_keys_in_base_are_usable() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../base/keys");
    let mut count = 0;
    for file in std::fs::read_dir(directory).expect("base/keys is there") {
        let path = file.expect("readable").path();
        keyring(&[(&path.display().to_string(), &std::fs::read(&path).expect("readable"))]);
        count += 1;
    }
    assert!(count >= 6, "Debian 12 and 13 have three keys each");
}
