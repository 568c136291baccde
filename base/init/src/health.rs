//! Asks whether the container works, as its manifest says to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::manifest::{Health, Probe};

/// How many bytes of an answer are read in search of its status line.
const MAX_STATUS_LINE: usize = 1024;

/// How long to wait between two looks at a program that has not ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks once.
///
/// # Errors
/// It does not work, or says so, or does not answer in time.
pub(crate) fn probe(health: &Health, environment: &Environment) -> Result<(), Failure> {
    let deadline = Instant::now() + health.timeout;
    let result = match &health.probe {
        Probe::Http { port, port_env, path } => {
            let changed = port_env.as_deref().and_then(|name| environment.get(name)).and_then(|port| port.to_str());
            let port = changed.and_then(|port| port.trim().parse().ok()).unwrap_or(*port);
            http(port, path, deadline)
        }
        Probe::Exec(command) => exec(command, environment, deadline),
        Probe::Unix(path) => unix(path, deadline),
    };
    result.map_err(Failure::Unhealthy)
}

fn http(port: u16, path: &str, deadline: Instant) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let status = status(address, path, deadline).map_err(|error| match error.kind() {
        // What a socket says whose time is over.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no answer in time from port {port}"),
        _ => format!("no answer from port {port}: {error}"),
    })?;
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(format!("port {port} answers {path} with status {status}"))
    }
}

/// The status with which a server answers `GET`.
fn status(address: SocketAddr, path: &str, deadline: Instant) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let port = address.port();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: claw-init\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; MAX_STATUS_LINE];
    let mut length = 0;
    while !answer[..length].contains(&b'\n') && length < answer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut answer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    parse_status(&answer[..length]).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// The status in an answer's first line, such as `HTTP/1.1 200 OK`.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

/// The time until `deadline`. Sockets take no time of zero, so none left is an error.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Connecting blocks while a server accepts nothing, and knows no time; so it is done on the side.
fn unix(path: &Path, deadline: Instant) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel();
    let target = path.to_owned();
    std::thread::spawn(move || sender.send(UnixStream::connect(target).map(drop)));
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect to {}: {error}", path.display())),
        Err(_) => Err(format!("{} does not accept connections in time", path.display())),
    }
}

fn exec(command: &[String], environment: &Environment, deadline: Instant) -> Result<(), String> {
    let (program, args) = command.split_first().expect("a manifest's commands are not empty");
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment.iter())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start `{program}`: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("`{program}` ended with {status}")),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(None) => {
                // Whether it could be killed makes no difference to the answer.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("`{program}` did not end in time"));
            }
            Err(error) => return Err(format!("cannot wait for `{program}`: {error}")),
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
