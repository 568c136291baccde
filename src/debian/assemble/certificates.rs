//! Trusted certificates: what update-ca-certificates makes of the package ca-certificates.
//!
//! A bundle of all, a link for each, and links by the hash of the subject, by which OpenSSL finds them in a
//! directory. Spec: openssl-rehash(1); X509_NAME_hash(3); RFC 5280 §4.1.

use std::collections::BTreeMap;

use sha1_checked::{Digest as _, Sha1};

use super::error::AssembleError;
use super::path::TreePath;
use super::tree::{NodeKind, Ownership, Tree};

const SHARED: &str = "usr/share/ca-certificates";
const LINKS: &str = "etc/ssl/certs";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
const CONFIGURATION: &str = "etc/ca-certificates.conf";
const HEADER: &str = "\
# The certificates below /usr/share/ca-certificates that are trusted, one a line; a line that begins with ! is not.
# update-ca-certificates(8) reads this file.
";

/// Trusts every certificate this layer brings.
pub(super) fn set_up(tree: &mut Tree<'_>) -> Result<(), AssembleError> {
    let shared = TreePath::from(SHARED);
    let certificates = tree
        .below_directory(&shared)
        .filter(|(path, node)| matches!(node.kind, NodeKind::File(_)) && path.as_str().ends_with(".crt"));
    let mut names: Vec<String> = certificates
        .filter_map(|(path, _)| path.as_str().strip_prefix(SHARED))
        .map(|name| name[1..].to_owned())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let mut bundle = Vec::new();
    let mut hashes: BTreeMap<u32, u32> = BTreeMap::new();
    let mut by_hash = Vec::new();
    for name in &names {
        let Some(pem) = tree.read(&format!("{SHARED}/{name}"))? else { continue };
        bundle.extend_from_slice(&pem);
        if !pem.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        let link = link_name(name);
        tree.put_link(&format!("{LINKS}/{link}"), &format!("/{SHARED}/{name}"));
        if let Some(hash) = decode_pem(&pem).and_then(|der| subject_hash(&der)) {
            by_hash.push((link, hash));
        }
    }
    // Equal subjects are told apart by a counter, in the order a directory listing sorts them.
    by_hash.sort();
    for (link, hash) in by_hash {
        let count = hashes.entry(hash).or_default();
        tree.put_link(&format!("{LINKS}/{hash:08x}.{count}"), &link);
        *count += 1;
    }
    let listing: String = names.iter().flat_map(|name| [name, "\n"]).collect();
    tree.put_file(CONFIGURATION, format!("{HEADER}{listing}"), Ownership::root(0o644));
    tree.put_file(BUNDLE, bundle, Ownership::root(0o644));
    Ok(())
}

fn link_name(name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = base.strip_suffix(".crt").unwrap_or(base);
    let replaced: String = base
        .chars()
        .map(|c| match c {
            ' ' | ',' => '_',
            '(' | ')' => '=',
            other => other,
        })
        .collect();
    format!("{replaced}.pem")
}

/// The first certificate of a PEM file.
fn decode_pem(pem: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

/// The hash OpenSSL files a certificate under: SHA-1 of its subject in canonical form, the first four bytes read as a
/// little-endian number.
fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let (outer, _) = Der::sequence(certificate)?;
    let (mut fields, _) = Der::sequence(outer)?;
    // version [0], which version 1 certificates lack; serialNumber, signature, issuer, validity; then the subject.
    if fields.first() == Some(&0xa0) {
        fields = Der::read(fields)?.1;
    }
    for _ in 0..4 {
        fields = Der::read(fields)?.1;
    }
    let (mut subject, _) = Der::sequence(fields)?;
    let mut canonical = Vec::new();
    while !subject.is_empty() {
        let (set, rest) = Der::read(subject)?;
        let mut members = set.value;
        let mut attributes = Vec::new();
        while !members.is_empty() {
            let (attribute, rest) = Der::sequence(members)?;
            let (kind, value) = Der::read(attribute)?;
            let (value, _) = Der::read(value)?;
            attributes.push(encode(0x30, &[encode(kind.tag, kind.value), canonical_string(&value)?].concat()));
            members = rest;
        }
        // The members of a SET OF are sorted by their encoding.
        attributes.sort();
        canonical.extend(encode(0x31, &attributes.concat()));
        subject = rest;
    }
    let digest = Sha1::digest(&canonical);
    Some(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// A string attribute as UTF-8 in small letters, without space around it and with single spaces inside. Anything but
/// a string stays as it is.
fn canonical_string(value: &Der<'_>) -> Option<Vec<u8>> {
    let text = match value.tag {
        // UTF8String, PrintableString, IA5String, VisibleString.
        0x0c | 0x13 | 0x16 | 0x1a => String::from_utf8(value.value.to_vec()).ok()?,
        // T61String, which everybody uses for Latin-1.
        0x14 => value.value.iter().map(|byte| char::from(*byte)).collect(),
        // BMPString, UniversalString.
        0x1e => {
            let units: Vec<u16> =
                value.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()?
        }
        0x1c => {
            let units =
                value.value.chunks_exact(4).map(|unit| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]));
            units.map(char::from_u32).collect::<Option<String>>()?
        }
        _ => return Some(encode(value.tag, value.value)),
    };
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    let words: Vec<&str> = text.split(space).filter(|word| !word.is_empty()).collect();
    Some(encode(0x0c, words.join(" ").to_ascii_lowercase().as_bytes()))
}

/// One value in DER.
struct Der<'a> {
    tag: u8,
    value: &'a [u8],
}

impl<'a> Der<'a> {
    /// The first value, and what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (tag, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ ..0x80 => (short, rest),
            long => {
                let (digits, rest) = rest.split_at_checked(long & 0x7f).filter(|(digits, _)| digits.len() <= 4)?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(length)?;
        Some((Self { tag: *tag, value }, rest))
    }

    /// The contents of a SEQUENCE, and what follows it.
    fn sequence(bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (value, rest) = Self::read(bytes)?;
        (value.tag == 0x30).then_some((value.value, rest))
    }
}

fn encode(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short @ ..0x80) => bytes.push(short),
        _ => {
            let digits = value.len().to_be_bytes();
            let digits = &digits[digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1)..];
            bytes.push(0x80 | u8::try_from(digits.len()).expect("a length has at most eight bytes"));
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn links_are_named_without_awkward_characters() {
        assert_eq!(link_name("mozilla/Root CA (2, new).crt"), "Root_CA_=2__new=.pem");
    }

    #[test]
    fn broken_certificates_have_no_hash() {
        assert_eq!(decode_pem(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----"), None);
        for broken in
            [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\x30\x05", b"\x30\x84\xff\xff\xff\xff", b"\x02\x01\x00"]
        {
            assert_eq!(subject_hash(broken), None);
        }
    }

    /// Against openssl, with a subject of every kind of string it makes.
    #[test]
    fn hashes_are_those_of_openssl() {
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (directory.path().join("key"), directory.path().join("crt"));
        for subject in
            ["/CN=Plain", "/C=DE/O=Two  Spaces and CAPITALS /CN= x ", "/O=Grüße \u{4f60}/emailAddress=A@B.example/CN=ü"]
        {
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-utf8",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-subj",
                    subject,
                ])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let asked = Command::new("openssl")
                .args(["x509", "-noout", "-subject_hash", "-in"])
                .arg(&certificate)
                .output()
                .unwrap();
            let expected = String::from_utf8(asked.stdout).unwrap();
            let der = decode_pem(&std::fs::read(&certificate).unwrap()).unwrap();
            assert_eq!(format!("{:08x}", subject_hash(&der).unwrap()), expected.trim(), "{subject}");
        }
    }
}
