//! Starting programs, and learning how they ended.
#![expect(unsafe_code, reason = "system calls that read and write memory, and one that returns twice")]

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::file::Fd;
use super::{address, arch, argument, c_string, call, call_with_addresses, signals, small, Errno};
use crate::environment::Environment;
use crate::signal::Signal;

const O_CLOEXEC: i32 = 0o2_000_000;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;
const TCGETS: usize = 0x5401;
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process, which is also its group's number.
    pub(crate) pid: Pid,
    /// Standard output and standard error, where they were asked for.
    pub(crate) outputs: Option<(Fd, Fd)>,
}

/// The number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid(i32);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended(i32);

impl Ended {
    /// The status a shell would report: 128 and the signal's number for a process that a signal ended.
    pub(crate) fn code(self) -> u8 {
        let signal = self.0 & 0x7f;
        let code = if signal == 0 { self.0 >> 8 & 0xff } else { 128 + signal };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::from_number(self.0 & 0x7f) {
            Some(signal) => write!(f, "signal {signal}"),
            None => write!(f, "status {}", self.code()),
        }
    }
}

/// What a process does with its standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// It has this program's.
    Inherited,
    /// Its input is empty, and nobody reads its outputs.
    Silent,
    /// Its input is empty, and its outputs can be read here.
    Captured,
}

/// Starts a program in a process group of its own, in `directory` or else where this program is.
///
/// # Errors
/// The program is not there or cannot be executed, or there are no processes left.
pub(crate) fn start(
    command: &[String],
    environment: &Environment,
    directory: Option<&Fd>,
    streams: Streams,
) -> Result<Started, Errno> {
    // Everything is made ready first: between the two calls that make a process of it, nothing may be allocated.
    let image = Image::new(command, environment)?;
    let null = match streams {
        Streams::Inherited => None,
        Streams::Silent | Streams::Captured => Some(super::file::open_null()?),
    };
    let outputs = match streams {
        Streams::Inherited | Streams::Silent => None,
        Streams::Captured => Some((pipe()?, pipe()?)),
    };
    let (told, tell) = pipe()?;
    // SAFETY: the new process has its own copy of everything, and does nothing but run `become_program` on it.
    let pid = unsafe { call_with_addresses(arch::CLONE, [argument(Signal::CHLD.number()), 0, 0, 0, 0])? };
    if pid == 0 {
        let null = null.as_ref().map(Fd::number);
        let [out, err] = match &outputs {
            Some((out, err)) => [Some(out.1.number()), Some(err.1.number())],
            None => [null, null],
        };
        let error = become_program(&image, directory.map(Fd::number), [null, out, err]);
        // Both calls may fail only where the parent is gone, and nobody is left to tell.
        let _ = super::file::write_all(tell.number(), &error.number().to_ne_bytes());
        let _ = call(arch::EXIT_GROUP, [127]);
    }
    drop(tell);
    let pid = Pid(small(pid));
    let mut error = [0; size_of::<usize>()];
    let told = loop {
        match told.read(&mut error) {
            Err(Errno::EINTR) => {}
            told => break told?,
        }
    };
    if told == error.len() {
        // It has ended already; that it was there at all is of no interest.
        let _ = wait_for(pid);
        return Err(Errno::new(usize::from_ne_bytes(error)));
    }
    Ok(Started { pid, outputs: outputs.map(|(out, err)| (out.0, err.0)) })
}

/// Does `work` in a process and process group of its own, which ends with the status it gives. The process has a copy of
/// all there is, and no other thread than this one.
///
/// # Errors
/// There are no processes left.
pub(crate) fn fork(work: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: the new process has its own copy of everything, and does nothing but `work`.
    let pid = unsafe { call_with_addresses(arch::CLONE, [argument(Signal::CHLD.number()), 0, 0, 0, 0])? };
    if pid == 0 {
        // Neither can fail here, and a failure would leave a process that works all the same.
        let _ = call(arch::SETPGID, [0, 0]).and(signals::reset().map(|()| 0));
        let status = work();
        loop {
            let _ = call(arch::EXIT_GROUP, [argument(status)]);
        }
    }
    // Both do it, since it has to be done before either goes on. Who is second is refused.
    let _ = call(arch::SETPGID, [pid, pid]);
    Ok(Pid(small(pid)))
}

/// A program, its arguments and environment, as the kernel takes them.
struct Image {
    /// Where the program may be.
    candidates: Vec<Vec<u8>>,
    /// Addresses of `_texts`, with a null after the last.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    _texts: Vec<Vec<u8>>,
}

impl Image {
    fn new(command: &[String], environment: &Environment) -> Result<Self, Errno> {
        let program = command.first().ok_or(Errno::ENOENT)?;
        let candidates = if program.contains('/') {
            alloc::vec![c_string(program.as_bytes())?]
        } else {
            let path = environment.get("PATH").unwrap_or(DEFAULT_PATH.as_bytes());
            let in_dir = |dir: &[u8]| c_string(&[dir, b"/", program.as_bytes()].concat());
            path.split(|byte| *byte == b':').filter(|dir| !dir.is_empty()).map(in_dir).collect::<Result<_, _>>()?
        };
        let arguments = command.iter().map(|argument| c_string(argument.as_bytes()));
        let mut texts: Vec<Vec<u8>> = arguments.collect::<Result<_, _>>()?;
        for (name, value) in environment.iter() {
            texts.push(c_string(&[name, b"=", value].concat())?);
        }
        let addresses = |texts: &[Vec<u8>]| texts.iter().map(|text| address(text.as_ptr())).chain([0]).collect();
        let (of_arguments, of_environment) = texts.split_at(command.len());
        Ok(Self {
            candidates,
            arguments: addresses(of_arguments),
            environment: addresses(of_environment),
            _texts: texts,
        })
    }
}

/// Makes this process the program. Comes back only when that cannot be.
fn become_program(image: &Image, directory: Option<i32>, streams: [Option<i32>; 3]) -> Errno {
    match prepare(directory, streams) {
        Ok(()) => execute(image),
        Err(error) => error,
    }
}

fn prepare(directory: Option<i32>, streams: [Option<i32>; 3]) -> Result<(), Errno> {
    call(arch::SETPGID, [0, 0])?;
    if let Some(directory) = directory {
        call(arch::FCHDIR, [argument(directory)])?;
    }
    for (from, to) in streams.into_iter().zip(0..) {
        if let Some(from) = from {
            call(arch::DUP3, [argument(from), to, 0])?;
        }
    }
    signals::reset()
}

/// Executes the first candidate that is there.
fn execute(image: &Image) -> Errno {
    let mut reason = Errno::ENOENT;
    for candidate in &image.candidates {
        let arguments =
            [address(candidate.as_ptr()), address(image.arguments.as_ptr()), address(image.environment.as_ptr())];
        // SAFETY: the path ends with a null character; both lists hold addresses of such texts, and end with a null.
        match unsafe { call_with_addresses(arch::EXECVE, arguments) } {
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // Another may do; if not, this is the reason of interest.
            Err(Errno::EACCES) => reason = Errno::EACCES,
            Err(error) => return error,
        }
    }
    reason
}

/// A pipe: the end to read and the end to write.
fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: the kernel writes two descriptors.
    unsafe { call_with_addresses(arch::PIPE2, [address(&raw mut ends), argument(O_CLOEXEC)])? };
    let [read, write] = ends.map(|end| Fd::new(argument(end)));
    Ok((read, write))
}

/// A child that has ended: which, and how. `None` when no child has ended since, or there is none at all.
pub(crate) fn reap() -> Result<Option<(Pid, Ended)>, Errno> {
    wait(argument(-1))
}

/// How that child ended, if it has.
pub(crate) fn reap_one(pid: Pid) -> Result<Option<Ended>, Errno> {
    Ok(wait(argument(pid.0))?.map(|(_, ended)| ended))
}

fn wait(which: usize) -> Result<Option<(Pid, Ended)>, Errno> {
    match wait_with(which, WNOHANG) {
        Ok((0, _)) | Err(Errno::ECHILD) => Ok(None),
        Ok((pid, status)) => Ok(Some((Pid(small(pid)), Ended(status)))),
        Err(error) => Err(error),
    }
}

/// Waits until that child has ended.
pub(crate) fn wait_for(pid: Pid) -> Result<Ended, Errno> {
    loop {
        match wait_with(argument(pid.0), 0) {
            Ok((_, status)) => return Ok(Ended(status)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait_with(which: usize, options: usize) -> Result<(usize, i32), Errno> {
    let mut status = 0_i32;
    // SAFETY: the kernel writes one status.
    let pid = unsafe { call_with_addresses(arch::WAIT4, [which, address(&raw mut status), options, 0])? };
    Ok((pid, status))
}

/// Sends a signal to the process group that began with `pid`. A group that is gone is no error.
pub(crate) fn signal_group(pid: Pid, signal: Signal) {
    // The only failures are a group that has ended and one this process may not signal; neither can be helped.
    let _ = call(arch::KILL, [argument(-pid.0), argument(signal.number())]);
}

/// Sends a signal to every process this one may signal, itself excluded.
pub(crate) fn signal_all(signal: Signal) {
    let _ = call(arch::KILL, [argument(-1), argument(signal.number())]);
}

/// Whether this is the first process of its container.
pub(crate) fn is_first() -> bool {
    call(arch::GETPID, []) == Ok(1)
}

/// Lets orphans of this process's descendants become its children, as they do anyway where it is the first.
pub(crate) fn adopt_orphans() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // An emulated kernel may not know this. Then whoever is the first process has them.
    let _ = call(arch::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0]);
}

/// Whether standard input is a terminal.
pub(crate) fn has_terminal() -> bool {
    // Room for `struct termios`, on every architecture.
    let mut settings = [0_u64; 16];
    // SAFETY: the kernel writes one `struct termios`, which is less than that.
    unsafe { call_with_addresses(arch::IOCTL, [0, TCGETS, address(&raw mut settings)]) }.is_ok()
}

/// Makes the group that began with `pid` the one in the foreground of the terminal on standard input.
pub(crate) fn give_terminal_to(pid: Pid) {
    let group = pid.0;
    // Fails where the terminal is not the controlling one. Then there is no job control to take part in.
    // SAFETY: the kernel reads one number.
    let _ = unsafe { call_with_addresses(arch::IOCTL, [0, TIOCSPGRP, address(&raw const group)]) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::vec;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::of(pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())))
    }

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn everything(fd: &Fd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = [0; 64];
        loop {
            match fd.read(&mut part).unwrap() {
                0 => return all,
                length => all.extend_from_slice(&part[..length]),
            }
        }
    }

    #[test]
    fn a_program_gets_its_arguments_and_its_environment_and_nothing_else() {
        let script = "echo \"$1 $A\"; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= >&2; cat; exit 3";
        let started = start(
            &command(&["sh", "-c", script, "sh", "x y"]),
            &environment(&[("A", "b c"), ("PATH", "/no:/bin")]),
            None,
            Streams::Captured,
        )
        .unwrap();
        let (out, err) = started.outputs.unwrap();
        assert_eq!(everything(&out), b"x y b c\n");
        let mut lines: Vec<Vec<u8>> = everything(&err).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        assert_eq!(lines, vec![b"".to_vec(), b"A=b c".to_vec(), b"PATH=/no:/bin".to_vec()]);
        assert_eq!(wait_for(started.pid).unwrap().code(), 3);
    }

    #[test]
    fn a_program_starts_where_it_is_told_to() {
        let usr = super::super::file::open_directory("/usr").unwrap();
        let pwd = command(&["/bin/sh", "-c", "pwd"]);
        let started = start(&pwd, &environment(&[]), Some(&usr), Streams::Captured).unwrap();
        assert_eq!(everything(&started.outputs.unwrap().0), b"/usr\n");
        assert_eq!(wait_for(started.pid).unwrap().code(), 0);
    }

    #[test]
    fn a_copy_of_the_process_gives_its_status() {
        let here = call(arch::GETPID, []);
        let pid = fork(|| if call(arch::GETPID, []) == here { 1 } else { 7 }).unwrap();
        assert_eq!(wait_for(pid).unwrap().code(), 7);
    }

    #[test]
    fn a_program_that_cannot_start_says_why() {
        let dir = std::env::temp_dir();
        let name = alloc::format!("claw-init-no-program-{}", std::process::id());
        let file = dir.join(&name);
        std::fs::write(&file, "x").unwrap();
        let in_dir = alloc::format!("{}:/no", dir.display());
        let start = |program: &str, path: &str| {
            start(&command(&[program]), &environment(&[("PATH", path)]), None, Streams::Inherited)
        };
        assert_eq!(start("/no/such", "/bin").unwrap_err(), Errno::ENOENT);
        assert_eq!(start("no-such", "/bin:/etc/passwd").unwrap_err(), Errno::ENOENT);
        assert_eq!(start(file.to_str().unwrap(), "").unwrap_err(), Errno::EACCES);
        assert_eq!(start(&name, &in_dir).unwrap_err(), Errno::EACCES);
        std::fs::remove_file(file).unwrap();
        assert_eq!(start("a\0b", "/bin").unwrap_err(), Errno::EINVAL);
    }

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        let kill = command(&["/bin/sh", "-c", "kill -9 $$"]);
        let started = start(&kill, &environment(&[]), None, Streams::Silent).unwrap();
        let ended = wait_for(started.pid).unwrap();
        assert_eq!((ended.code(), alloc::format!("{ended}").as_str()), (137, "signal SIGKILL"));
    }
}
