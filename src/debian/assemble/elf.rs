//! Just enough of ELF to know a shared library's name. Spec: System V ABI, Object Files and Dynamic Linking.

use std::io;

/// Reads at a position; fewer bytes than asked only at the end.
pub(super) type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> io::Result<usize> + 'a;

/// A shared library, as far as the loader's cache is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharedObject {
    /// `e_machine`.
    pub(super) machine: u16,
    /// What it calls itself, where it does.
    pub(super) soname: Option<String>,
}

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
/// Bounds on what is read of a file that claims to be ELF.
const MAX_SEGMENTS: u16 = 256;
const MAX_DYNAMIC: u64 = 64 << 10;
const MAX_NAME: usize = 256;

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// Looks at a file: a 64-bit little-endian shared object, or nothing.
pub(super) fn shared_object(read_at: &ReadAt<'_>) -> io::Result<Option<SharedObject>> {
    let Some(header) = take::<64>(read_at, 0)? else { return Ok(None) };
    if !header.starts_with(b"\x7fELF\x02\x01\x01") || u16_at(&header, 16) != ET_DYN {
        return Ok(None);
    }
    let machine = u16_at(&header, 18);
    let (table, entry, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(entry) != 56 || count > MAX_SEGMENTS {
        return Ok(None);
    }
    let mut segments = Vec::new();
    for at in 0..u64::from(count) {
        let Some(bytes) = take::<56>(read_at, table.saturating_add(at * 56))? else { return Ok(None) };
        segments.push(Segment {
            kind: u32_at(&bytes, 0),
            offset: u64_at(&bytes, 8),
            address: u64_at(&bytes, 16),
            size: u64_at(&bytes, 32),
        });
    }
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(None) };
    let (mut strings, mut name) = (None, None);
    for at in (0..dynamic.size.min(MAX_DYNAMIC)).step_by(16) {
        let Some(bytes) = take::<16>(read_at, dynamic.offset.saturating_add(at))? else { return Ok(None) };
        match u64_at(&bytes, 0) {
            DT_NULL => break,
            DT_STRTAB => strings = Some(u64_at(&bytes, 8)),
            DT_SONAME => name = Some(u64_at(&bytes, 8)),
            _ => {}
        }
    }
    let (Some(strings), Some(name)) = (strings, name) else { return Ok(Some(SharedObject { machine, soname: None })) };
    let place = segments.iter().find(|segment| {
        segment.kind == PT_LOAD && (segment.address..segment.address.saturating_add(segment.size)).contains(&strings)
    });
    let Some(place) = place else { return Ok(None) };
    let offset = (strings - place.address).saturating_add(place.offset).saturating_add(name);
    let mut bytes = [0; MAX_NAME];
    let count = read_at(offset, &mut bytes)?;
    let soname = bytes[..count].split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
    let soname = soname.filter(|name| !name.is_empty() && name.len() < MAX_NAME).map(str::to_owned);
    Ok(Some(SharedObject { machine, soname }))
}

fn take<const N: usize>(read_at: &ReadAt<'_>, at: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let count = read_at(at, &mut bytes)?;
    Ok((count == N).then_some(bytes))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(bytes: &[u8]) -> Option<SharedObject> {
        let read_at = |at: u64, buf: &mut [u8]| {
            let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let length = rest.len().min(buf.len());
            buf[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        shared_object(&read_at).unwrap()
    }

    /// A shared object with a name, as small as it gets.
    fn library(name: &str) -> Vec<u8> {
        let number = |bytes: &mut Vec<u8>, at: usize, value: u64, width: usize| {
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        };
        let mut bytes = vec![0; 64 + 2 * 56 + 3 * 16];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (at, value, width) in [(16, 3, 2), (18, 62, 2), (32, 64, 8), (54, 56, 2), (56, 2, 2)] {
            number(&mut bytes, at, value, width);
        }
        let (dynamic, strings) = (64 + 2 * 56, bytes.len() as u64);
        // A segment at address 0x1000 + offset, and the dynamic section.
        for (at, value) in
            [(64, 1), (64 + 16, 0x1000), (64 + 32, 0x10000), (120, 2), (120 + 8, dynamic as u64), (120 + 32, 48)]
        {
            number(&mut bytes, at, value, 8);
        }
        for (at, value) in [(0, 5), (8, 0x1000 + strings), (16, 14), (24, 1)] {
            number(&mut bytes, dynamic + at, value, 8);
        }
        bytes.push(0);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn names_are_found() {
        let found = look(&library("libx.so.1")).unwrap();
        assert_eq!((found.machine, found.soname.as_deref()), (62, Some("libx.so.1")));
        assert_eq!(look(&library("")).unwrap().soname, None);
        assert_eq!(look(b"!<arch>\n"), None);
        let mut program = library("x");
        program[16] = 2;
        assert_eq!(look(&program), None);
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0usize..300, bytes: [u8; 8], cut in 0usize..300) {
            let mut library = library("libx.so.1");
            let at = at % (library.len() - 8);
            library[at..at + 8].copy_from_slice(&bytes);
            library.truncate(cut.max(1));
            let _ = look(&library);
        }
    }
}
