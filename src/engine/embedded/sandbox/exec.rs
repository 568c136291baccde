//! Finding and executing the program, and saying why if that fails.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::Refusal;
use super::spec::{DEFAULT_PATH, Spec, Variable};

/// Replaces this process by the spec's command. Returns only if that fails.
pub(super) fn execute(spec: &Spec, home: &str) -> Refusal {
    let Some(program) = spec.args.first() else {
        return Refusal::ProgramNotFound { program: String::new(), path: String::new() };
    };
    let found = match find(program, &spec.env) {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let mut variables: Vec<String> =
        spec.env.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    if !spec.env.iter().any(|variable| variable.name == "HOME" && !variable.value.is_empty()) {
        variables.retain(|variable| variable != "HOME=");
        variables.push(format!("HOME={home}"));
    }
    let strings = |texts: &[String]| -> Result<Vec<CString>, std::ffi::NulError> {
        texts.iter().map(|text| CString::new(text.as_str())).collect()
    };
    let path = CString::new(found.as_os_str().as_encoded_bytes());
    let (Ok(path), Ok(args), Ok(env)) = (path, strings(&spec.args), strings(&variables)) else {
        return Refusal::setup("pass on an argument or variable with a NUL byte in it")(io::Error::from_raw_os_error(
            libc::EINVAL,
        ));
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    #[expect(unsafe_code, reason = "execve(2) has no safe form")]
    // SAFETY: both lists end with a null pointer, and what they point to lives until the call returns, if it does.
    unsafe {
        libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr());
    }
    explain(program, &found, &io::Error::last_os_error())
}

/// Where the program is: itself if it has a slash, else the first along `PATH` that can be executed.
fn find(program: &str, env: &[Variable]) -> Result<PathBuf, Refusal> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = env.iter().find(|variable| variable.name == "PATH").map_or(DEFAULT_PATH, |variable| &variable.value);
    let mut denied = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty() && !program.is_empty()) {
        let candidate = Path::new(directory).join(program);
        match fs::metadata(&candidate) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(meta) if meta.is_file() => denied = Some(candidate),
            Ok(_) | Err(_) => {}
        }
    }
    match denied {
        Some(path) => Err(Refusal::NotExecutable(path.display().to_string())),
        None => Err(Refusal::ProgramNotFound { program: program.to_owned(), path: path.to_owned() }),
    }
}

/// Why executing failed. The kernel's numbers do not tell a missing program from a missing interpreter.
fn explain(program: &str, found: &Path, error: &io::Error) -> Refusal {
    let name = found.display().to_string();
    let header = header(found);
    match error.raw_os_error() {
        Some(libc::ENOENT) if !found.exists() => {
            Refusal::ProgramNotFound { program: program.to_owned(), path: String::new() }
        }
        Some(libc::ENOENT) => match header.as_deref().and_then(interpreter) {
            Some(interpreter) => Refusal::InterpreterNotFound { program: name, interpreter },
            None => Refusal::InterpreterNotFound { program: name, interpreter: "its dynamic loader".to_owned() },
        },
        Some(libc::ENOTDIR) => Refusal::ProgramNotFound { program: program.to_owned(), path: String::new() },
        Some(libc::EACCES | libc::EISDIR) => Refusal::NotExecutable(name),
        Some(libc::ENOEXEC | libc::ELIBBAD) => match header.as_deref().and_then(foreign_machine) {
            Some(machine) => Refusal::ForeignArchitecture { program: name, machine },
            None => Refusal::NotAProgram(name),
        },
        _ => Refusal::setup(format!("execute `{name}`"))(io::Error::from_raw_os_error(
            error.raw_os_error().unwrap_or(libc::EIO),
        )),
    }
}

fn header(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether a program needs an interpreter or a dynamic loader.
pub(super) fn needs_interpreter(path: &Path) -> bool {
    header(path).as_deref().and_then(interpreter).is_some()
}

/// What a script's `#!` line or a program's `PT_INTERP` header names.
fn interpreter(header: &[u8]) -> Option<String> {
    if let Some(line) = header.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
        // A carriage return at the end of the line is the usual reason, so it has to show.
        return Some(line.trim_matches(' ').split(' ').next()?.escape_default().to_string());
    }
    elf_interpreter(header)
}

/// Spec: System V ABI, ELF-64 object file format.
fn elf_interpreter(header: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| usize::try_from(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?)).ok();
    let (table, size, count) = (u64_at(0x20)?, usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    for entry in (0..count).map(|number| table.saturating_add(number * size)) {
        if u32_at(entry)? == PT_INTERP {
            let (offset, length) = (u64_at(entry + 0x08)?, u64_at(entry + 0x20)?);
            let text = header.get(offset..offset.checked_add(length)?)?;
            return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
    }
    None
}

/// The processor of an ELF program, if it is not this machine's.
fn foreign_machine(header: &[u8]) -> Option<String> {
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let bytes: [u8; 2] = header.get(0x12..0x14)?.try_into().ok()?;
    let machine = if header.get(5) == Some(&2) { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let name = match machine {
        3 => "x86",
        8 => "mips",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        other => return Some(format!("ELF machine {other}")),
    };
    (name != std::env::consts::ARCH).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_interpreters() {
        assert_eq!(interpreter(b"#!/usr/bin/env node\nx"), Some("/usr/bin/env".to_owned()));
        assert_eq!(interpreter(b"#! /bin/sh\r\n"), Some("/bin/sh\\r".to_owned()));
        let own = header(Path::new("/bin/true")).expect("a program");
        assert!(
            interpreter(&own).is_some_and(|interpreter| interpreter.contains("ld-")),
            "dynamic loader of /bin/true"
        );
        assert_eq!(foreign_machine(&own), None);
    }

    #[test]
    fn names_foreign_machines() {
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(0x40, 0);
        for (machine, name) in [(62_u8, "x86_64"), (183, "aarch64"), (243, "riscv64"), (40, "arm")] {
            program[0x12] = machine;
            let expected = (name != std::env::consts::ARCH).then(|| name.to_owned());
            assert_eq!(foreign_machine(&program), expected);
        }
        assert_eq!(foreign_machine(b"echo"), None);
    }
}
