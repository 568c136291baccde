//! Pax records: `length key=value\n`. Spec: POSIX pax(1) §pax Extended Header.

use std::collections::BTreeMap;

/// Prefix of extended attributes' keys.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one entry, sorted by key as they are written.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The bytes of these records.
pub(super) fn encode(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + " =\n".len();
        // The length counts its own digits.
        let mut length = rest + decimal_width(rest);
        length = rest + decimal_width(length);
        bytes.extend_from_slice(length.to_string().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

const fn decimal_width(value: usize) -> usize {
    match value.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Adds the records in `bytes` to `records`. `None` if they are malformed. A record without a value takes back an
/// earlier one.
pub(super) fn decode(mut bytes: &[u8], records: &mut Records) -> Option<()> {
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
        let digits = &bytes[..space];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        if length < space + 2 || length > bytes.len() {
            return None;
        }
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return None;
        }
        if value.is_empty() && !key.starts_with(XATTR) {
            records.remove(key);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        bytes = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        for value in [0, 1, 85, 86, 87, 88, 89, 90, 91, 985, 986, 987, 988, 989, 990, 9_985] {
            let records = Records::from([(b"path".to_vec(), vec![b'x'; value])]);
            let bytes = encode(&records);
            let digits: usize = String::from_utf8_lossy(&bytes).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(digits, bytes.len());
            let mut back = Records::new();
            decode(&bytes, &mut back).unwrap();
            assert!(back == records || value == 0);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in
            [&b"x"[..], b"5 a=\n", b"99 a=b\n", b"6 a=b\n7", b"7 aab\n\n", b" a=b\n", b"+6 a=b\n", b"6 =bb\n", b"0 "]
        {
            assert!(decode(bytes, &mut Records::new()).is_none() || bytes == b"5 a=\n", "{}", bytes.escape_ascii());
        }
    }
}
