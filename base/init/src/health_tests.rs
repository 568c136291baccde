use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Instant;

/// A server that reads one request, answers with `answer` and gives the request's first line.
fn server(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        // In two parts, as a slow server might.
        let (first, second) = answer.split_at(answer.len() / 2);
        stream.write_all(first.as_bytes()).unwrap();
        stream.flush().unwrap();
        thread::sleep(Duration::from_millis(20));
        let _ = stream.write_all(second.as_bytes());
        String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned()
    });
    (port, thread)
}

fn ask(probe: Probe, millis: u64) -> Result<(), String> {
    let health = Health { probe, timeout: Duration::from_millis(millis) };
    super::probe(&health, &Environment::default())
}

fn ask_http(port: u16) -> Result<(), String> {
    ask(Probe::Http { port, port_env: None, path: "/healthz?x=1".into() }, 2_000)
}

#[test]
fn a_status_in_the_two_hundreds_is_health() {
    let (port, thread) = server("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(ask_http(port), Ok(()));
    assert_eq!(thread.join().unwrap(), "GET /healthz?x=1 HTTP/1.1");
}

#[test]
fn any_other_answer_is_not() {
    for (answer, expected) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answers /healthz?x=1 with status 503"),
        ("HTTP/1.0 301 Moved\r\n\r\n", "answers /healthz?x=1 with status 301"),
        ("SSH-2.0-OpenSSH\r\n", "answers is not HTTP"),
        ("HTTP/1.1 2000\r\n", "answers is not HTTP"),
        ("", "answers is not HTTP"),
    ] {
        let (port, thread) = server(answer);
        let message = ask_http(port).unwrap_err();
        assert!(message.contains(expected), "{message}");
        thread.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let begin = Instant::now();
    let message = ask(Probe::Http { port, port_env: None, path: "/".into() }, 100).unwrap_err();
    assert!(message.contains("no answer in time"), "{message}");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_closed_port_is_unhealthy() {
    // One the kernel never hands out: a port just freed may be another test's by now.
    const TCPMUX: u16 = 1;
    let message = ask_http(TCPMUX).unwrap_err();
    assert!(message.contains("refused"), "{message}");
}

#[test]
fn a_program_tells_by_its_status() {
    let exec = |script: &str| Probe::Exec(vec!["/bin/sh".into(), "-c".into(), script.into()]);
    assert_eq!(ask(exec("exit 0"), 2_000), Ok(()));
    assert!(ask(exec("exit 3"), 2_000).unwrap_err().contains("ended with status 3"));
    assert!(ask(exec("sleep 60"), 50).unwrap_err().contains("did not end in time"));
    assert!(ask(Probe::Exec(vec!["/no/such".into()]), 50).unwrap_err().contains("cannot start"));
}

#[test]
fn a_socket_tells_by_accepting() {
    let path = std::env::temp_dir().join(format!("claw-init-health-{}.sock", std::process::id()));
    assert!(ask(Probe::Unix(path.to_str().unwrap().to_owned()), 50).is_err());
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(ask(Probe::Unix(path.to_str().unwrap().to_owned()), 50), Ok(()));
    drop(listener);
    std::fs::remove_file(path).unwrap();
}
