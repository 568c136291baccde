//! Header blocks. Field offsets: POSIX pax(1) §ustar Interchange Format.

use std::ops::Range;

use super::BLOCK;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK_NAME: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const DEV_MAJOR: Range<usize> = 329..337;
pub(super) const DEV_MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// Where the prefix of the `star` variant ends.
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
/// Where the `star` variant is told by `tar\0`.
pub(super) const STAR_MARK: Range<usize> = 508..512;

/// Magic and version of ustar and pax headers.
pub(super) const USTAR: &[u8; 8] = b"ustar\x0000";

/// One header block.
#[derive(Clone)]
pub(super) struct Block(pub(super) [u8; BLOCK]);

impl Block {
    pub(super) const fn zero() -> Self {
        Self([0; BLOCK])
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    /// The bytes of a field up to its NUL.
    pub(super) fn text(&self, field: Range<usize>) -> &[u8] {
        let bytes = &self.0[field];
        &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())]
    }

    /// A number: octal digits among blanks, or base 256 where the first bit is set. `None` for anything else.
    pub(super) fn number(&self, field: Range<usize>) -> Option<i64> {
        let bytes = &self.0[field];
        if bytes[0] & 0x80 != 0 { base_256(bytes) } else { octal(bytes) }
    }

    /// Writes `value` as octal digits filling the field, then NUL. One that does not fit is written as 0.
    pub(super) fn set_octal(&mut self, field: Range<usize>, value: i64) {
        let digits = field.len() - 1;
        let value = if fits_octal(field.len(), value) { value } else { 0 };
        let text = format!("{value:0digits$o}");
        self.0[field.start..field.start + digits].copy_from_slice(text.as_bytes());
    }

    /// Writes `text`, cut to the field. A cut that falls right after a slash loses it: readers take names that end in
    /// one for directories.
    pub(super) fn set_text(&mut self, field: Range<usize>, text: &[u8]) {
        let room = field.len();
        let target = &mut self.0[field];
        if text.len() <= room {
            target[..text.len()].copy_from_slice(text);
            return;
        }
        target.copy_from_slice(&text[..room]);
        if target[room - 1] == b'/' {
            let end = trim_slashes(&text[..room - 1]).len();
            target[end] = 0;
        }
    }

    /// The sums of all bytes, the checksum's own taken as blanks: as unsigned bytes, and as some old writers had it.
    pub(super) fn sums(&self) -> (i64, i64) {
        let (mut unsigned, mut signed) = (0, 0);
        for (index, &byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&index) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        (unsigned, signed)
    }

    /// Writes the checksum; last of all.
    pub(super) fn seal(&mut self) {
        let text = format!("{:06o}\0 ", self.sums().0);
        self.0[CHECKSUM].copy_from_slice(text.as_bytes());
    }
}

/// Whether a field of this width can hold the number as octal digits and a NUL.
pub(super) const fn fits_octal(width: usize, value: i64) -> bool {
    value >= 0 && value < 1 << ((width - 1) * 3)
}

pub(super) fn trim_slashes(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = text {
        text = rest;
    }
    text
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    // What follows a NUL inside the field is leftovers.
    let digits = bytes[start..end].split(|&byte| byte == 0).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base_256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value = 0_i64;
    for (index, &byte) in bytes.iter().enumerate() {
        let byte = (byte ^ invert) & if index == 0 { 0x7f } else { 0xff };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(if negative { !value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8]) -> Option<i64> {
        let mut block = Block::zero();
        block.0[SIZE][..bytes.len()].copy_from_slice(bytes);
        block.number(SIZE)
    }

    #[test]
    fn numbers_in_all_their_dialects() {
        assert_eq!(field(b"00000000017\0"), Some(15));
        assert_eq!(field(b"     17 "), Some(15));
        assert_eq!(field(b""), Some(0));
        assert_eq!(field(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(field(b"8"), None);
        assert_eq!(field(b"-7"), None);
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(1 << 33));
        assert_eq!(field(&[0xff; 12]), Some(-1));
        assert_eq!(field(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn octal_fields_say_zero_when_full() {
        let mut block = Block::zero();
        block.set_octal(UID, (1 << 21) - 1);
        assert_eq!(&block.0[UID], b"7777777\0");
        block.set_octal(UID, 1 << 21);
        assert_eq!(&block.0[UID], b"0000000\0");
    }
}
