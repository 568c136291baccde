//! What a program or library says of itself. Spec: System V ABI, Object Files and Dynamic Linking.

use serde::{Deserialize, Serialize};

/// An ELF file, as far as it matters where it can run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Elf {
    /// `e_machine`.
    pub(super) machine: u16,
    /// The dynamic loader it asks for.
    pub(super) interpreter: Option<String>,
    /// `DT_NEEDED`.
    pub(super) needed: Vec<String>,
    /// `DT_RUNPATH` and `DT_RPATH`, taken apart.
    pub(super) search: Vec<String>,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
/// Relocatable objects are not run.
const ET_REL: u16 = 1;
/// More entries than any file has.
const MOST: usize = 4096;

struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    size: usize,
}

impl Elf {
    /// Reads a file; `None` for what is no program or library. Of files that are not 64-bit and little-endian only the
    /// machine is read.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        if !file.starts_with(b"\x7fELF") {
            return None;
        }
        let (is_64, is_little) = (*file.get(4)? == 2, *file.get(5)? == 1);
        let halfword = |at| if is_little { u16_at(file, at) } else { u16_at(file, at).map(u16::swap_bytes) };
        if halfword(16)? == ET_REL {
            return None;
        }
        let mut elf = Self { machine: halfword(18)?, ..Self::default() };
        if is_64 && is_little {
            // What is damaged further on says nothing more.
            let _ = elf.read_segments(file);
        }
        Some(elf)
    }

    fn read_segments(&mut self, file: &[u8]) -> Option<()> {
        let (table, size) = (usize_at(file, 32)?, usize::from(u16_at(file, 54)?));
        let mut segments = Vec::new();
        for number in 0..usize::from(u16_at(file, 56)?).min(MOST) {
            let at = table.checked_add(number.checked_mul(size)?)?;
            segments.push(Segment {
                kind: u32_at(file, at)?,
                offset: usize_at(file, at.checked_add(8)?)?,
                address: u64_at(file, at.checked_add(16)?)?,
                size: usize_at(file, at.checked_add(32)?)?,
            });
        }
        let of = |kind| segments.iter().find(|segment| segment.kind == kind);
        self.interpreter = of(PT_INTERP).and_then(|segment| text_at(file, segment.offset));
        let dynamic = of(PT_DYNAMIC)?;
        let mut entries = Vec::new();
        for number in 0..(dynamic.size / 16).min(MOST) {
            let at = dynamic.offset.checked_add(number * 16)?;
            match (u64_at(file, at)?, u64_at(file, at.checked_add(8)?)?) {
                (DT_NULL, _) => break,
                entry => entries.push(entry),
            }
        }
        let (_, strings) = *entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?;
        let place = segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
            let within = usize::try_from(strings.checked_sub(segment.address)?).ok()?;
            (within < segment.size).then(|| segment.offset.checked_add(within))?
        })?;
        for (tag, value) in entries {
            let text = || text_at(file, place.checked_add(usize::try_from(value).ok()?)?);
            match tag {
                DT_NEEDED => self.needed.extend(text()),
                DT_RPATH | DT_RUNPATH => {
                    let paths = text().unwrap_or_default();
                    self.search.extend(paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned));
                }
                _ => {}
            }
        }
        Some(())
    }
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    bytes(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

fn usize_at(file: &[u8], at: usize) -> Option<usize> {
    u64_at(file, at).and_then(|number| usize::try_from(number).ok())
}

fn text_at(file: &[u8], at: usize) -> Option<String> {
    let rest = file.get(at..)?;
    let end = rest.iter().take(MOST).position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok().map(str::to_owned)
}

/// The machine's number on a platform, where it is known.
pub(super) fn machine_of(architecture: oci::Architecture) -> u16 {
    match architecture {
        oci::Architecture::Amd64 => 62,
        oci::Architecture::Arm64 => 183,
        oci::Architecture::Riscv64 => 243,
    }
}

/// A machine's name.
pub(super) fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86".to_owned(),
        8 => "mips".to_owned(),
        21 => "powerpc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        258 => "loongarch64".to_owned(),
        other => format!("machine {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_are_read() {
        let program = std::fs::read("/bin/true").expect("every machine has it");
        let elf = Elf::read(&program).expect("a program");
        assert_eq!(machine_name(elf.machine), std::env::consts::ARCH);
        assert!(elf.interpreter.as_deref().is_some_and(|path| path.contains("ld-")), "{elf:?}");
        assert!(elf.needed.iter().any(|library| library.starts_with("libc.so")), "{elf:?}");
        assert_eq!(Elf::read(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn damaged_files_are_no_trouble() {
        let mut program = std::fs::read("/bin/true").expect("every machine has it");
        program.truncate(20_000);
        for at in 0..program.len().min(2_000) {
            let kept = std::mem::replace(&mut program[at], 0xff);
            let _ = Elf::read(&program);
            program[at] = kept;
        }
        for length in 0..200 {
            let _ = Elf::read(&program[..length]);
        }
    }
}
