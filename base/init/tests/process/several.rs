//! Several processes: their order, their output, and what the end of one leads to.

use crate::scene::{eventually, stderr, stdout, Scene};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

#[test]
fn several_processes_have_prefixed_lines_and_end_together() {
    let scene = Scene::new(
        "several",
        r#"{"version": 1, "stop_timeout_ms": 5000, "processes": [
            {"name": "main", "command": ["/bin/sh", "-c", "echo one; echo two >&2; sleep 0.3; printf last; exit 4"]},
            {"name": "side", "command": ["/bin/sh", "-c", "exec 2>/dev/null; trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"]},
            {"name": "once", "command": ["/bin/sh", "-c", "exit 1"], "restart": "never"}
        ]}"#,
    );
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(4));
    let mut lines: Vec<&str> = stdout(&output).lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[main] last", "[main] one", "[side] bye", "[side] up"]);
    let mut errors: Vec<&str> = stderr(&output).lines().collect();
    errors.sort_unstable();
    assert_eq!(errors, ["[main] two", "claw-init: main ended with status 4", "claw-init: once ended with status 1"]);
}

#[test]
fn a_companion_is_started_again() {
    let scene = Scene::new(
        "restart",
        r#"{"version": 1, "processes": [
            {"name": "main", "command": ["/bin/sh", "-c", "while [ ! -e DIR/second ]; do sleep 0.02; done"]},
            {"name": "side",
             "command": ["/bin/sh", "-c", "if [ -e DIR/first ]; then touch DIR/second; exit 0; fi; touch DIR/first; exit 1"]}
        ]}"#,
    );
    let begin = Instant::now();
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(begin.elapsed() >= Duration::from_millis(100), "restarts wait: {:?}", begin.elapsed());
}

/// A manifest of processes, each of which is a shell script, and more keys.
fn shells(name: &str, processes: &[(&str, &str, &str)]) -> Scene {
    let process = |(name, script, more): &(&str, &str, &str)| {
        let script = script.replace('\\', "\\\\").replace('"', "\\\"");
        format!(r#"{{"name": "{name}", "command": ["/bin/sh", "-c", "{script}"]{more}}}"#)
    };
    let processes: Vec<String> = processes.iter().map(process).collect();
    let manifest = format!(r#"{{"version": 1, "stop_timeout_ms": 5000, "processes": [{}]}}"#, processes.join(","));
    Scene::new(&format!("several-{name}"), &manifest)
}

/// Runs until it is asked to end, and tells both in the file `log`.
const SERVE: &str = "echo $NAME up >> DIR/log; trap 'sleep 0.05; echo $NAME down >> DIR/log; exit 0' TERM; \
    exec 2>/dev/null; while :; do sleep 0.02; done";

fn log(scene: &Scene) -> String {
    fs::read_to_string(scene.0.join("log")).unwrap_or_default()
}

#[test]
fn they_start_in_order_and_stop_in_reverse() {
    let scene = shells(
        "order",
        &[
            ("main", SERVE, r#", "after": ["cache", "db"], "env": {"NAME": "main"}"#),
            ("cache", SERVE, r#", "after": ["db"], "env": {"NAME": "cache"}, "ready": "started""#),
            (
                "db",
                &format!("sleep 0.3; touch DIR/ready; {SERVE}"),
                r#", "after": ["setup"], "env": {"NAME": "db"}, "ready": {"exec": ["/bin/test", "-e", "DIR/ready"]}"#,
            ),
            ("setup", "sleep 0.2; echo setup done >> DIR/log", r#", "ready": "completed""#),
        ],
    );
    let running = scene.start(&[]);
    eventually("everything is up", || log(&scene).lines().count() == 4);
    // What starts together may come in either order.
    let up = log(&scene);
    assert!(up.starts_with("setup done\ndb up\n"), "{up}");
    running.signal("TERM");
    let (status, _, err) = running.end();
    assert_eq!(status, 0, "{err}");
    assert_eq!(log(&scene).strip_prefix(&up), Some("main down\ncache down\ndb down\n"), "{err}");
}

#[test]
fn a_server_is_waited_for_until_it_answers() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = std::thread::spawn(move || {
        for status in ["503 Not Yet", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            write!(stream, "HTTP/1.1 {status}\r\n\r\n").unwrap();
        }
    });
    let ready = format!(
        r#", "ready": {{"http": {{"port": 1, "port_env": "PORT", "path": "/"}}}}, "env": {{"PORT": "{port}"}}"#
    );
    let scene = shells("http", &[("main", "exit 6", r#", "after": ["web"]"#), ("web", "sleep 60", &ready)]);
    let begin = Instant::now();
    assert_eq!(scene.run(&[]).status.code(), Some(6));
    assert!(begin.elapsed() >= Duration::from_millis(200), "it is asked again after a while");
    answers.join().unwrap();
}

#[test]
fn what_is_never_ready_ends_the_container() {
    let late = r#", "ready": {"exec": ["/bin/false"], "within_ms": 300}"#;
    let scene = shells("late", &[("main", "echo no", r#", "after": ["db"]"#), ("db", "sleep 60", late)]);
    let output = scene.run(&[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert_eq!(stderr(&output), "claw-init: db was not ready in time, and others wait for it\n");

    let failing = r#", "ready": "completed", "restart": "never""#;
    let scene = shells("setup", &[("main", "echo no", r#", "after": ["setup"]"#), ("setup", "exit 9", failing)]);
    let output = scene.run(&[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(9), ""));
    assert!(stderr(&output).ends_with("setup will never be ready, and others wait for it\n"), "{}", stderr(&output));

    // A question that gets no answer does not keep others from being asked for, nor the container from its end.
    let hanging = r#", "ready": {"exec": ["/bin/sleep", "60"], "timeout_ms": 100, "within_ms": 400}"#;
    let scene = shells("hanging", &[("main", "echo no", r#", "after": ["db"]"#), ("db", "sleep 60", hanging)]);
    let begin = Instant::now();
    assert_eq!(scene.run(&[]).status.code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn one_that_is_restarted_too_often_ends_the_container() {
    for (restart, end, status) in [("on-failure", "exit 3", 3), ("always", "exit 0", 1)] {
        let more = format!(r#", "restart": "{restart}", "max_restarts": 2"#);
        let scene = shells("often", &[("main", "sleep 60", ""), ("side", &format!("echo again; {end}"), &more)]);
        let output = scene.run(&[]);
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(stdout(&output), "[side] again\n".repeat(3));
        assert!(stderr(&output).ends_with("claw-init: side was started again too often\n"), "{}", stderr(&output));
    }
}

#[test]
fn the_main_one_may_be_restarted_too() {
    let script = "if [ -e DIR/first ]; then exit 0; fi; touch DIR/first; exit 1";
    let scene =
        shells("main", &[("side", "sleep 60", r#", "main": false"#), ("app", script, r#", "restart": "on-failure""#)]);
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = "claw-init: app ended with status 1\nclaw-init: app ended with status 0\n";
    assert_eq!(stderr(&output), said);
}

#[test]
fn one_that_just_ends_leaves_the_rest() {
    let scene = shells(
        "ends",
        &[("main", "sleep 0.5; exit 4", ""), ("a", "exit 0", ""), ("b", "exit 5", r#", "restart": "never""#)],
    );
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}

#[test]
fn each_has_its_own_variables_and_directory() {
    let scene = shells(
        "own",
        &[
            ("main", "sleep 0.5", ""),
            ("side", "echo $A $B; pwd", r#", "env": {"A": "mine"}, "cwd": "/usr", "restart": "never""#),
        ],
    );
    let output = scene.command(&[]).env("A", "given").env("B", "too").output().unwrap();
    assert_eq!(stdout(&output), "[side] mine too\n[side] /usr\n", "{}", stderr(&output));
    let scene = shells("nowhere", &[("main", "sleep 60", ""), ("side", "exit 0", r#", "cwd": "/no/such""#)]);
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(71));
    assert_eq!(stderr(&output), "claw-init: cannot start side in /no/such: No such file or directory\n");
}

#[test]
fn one_that_cannot_be_started_ends_the_others_in_peace() {
    let scene = shells("peace", &[("main", SERVE, r#", "env": {"NAME": "main"}"#), ("gone", "", "")]);
    let path = scene.0.join("init.json");
    let manifest = fs::read_to_string(&path).unwrap();
    let gone = manifest.replace(r#"["/bin/sh", "-c", ""]"#, r#"["/no/such"], "after": ["main"], "ready": "started""#);
    let waits = r#""ready": {"exec": ["/bin/test", "-e", "DIR/log"]}, "env""#.replace("DIR", scene.0.to_str().unwrap());
    fs::write(&path, gone.replace(r#""env""#, &waits)).unwrap();
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
    assert_eq!(log(&scene), "main up\nmain down\n");
}

#[test]
fn each_has_its_own_way_to_be_stopped() {
    let scene = shells(
        "stop",
        &[
            (
                "main",
                "trap 'exit 0' INT; echo up; exec 2>/dev/null; while :; do sleep 0.02; done",
                r#", "stop_signal": "SIGINT""#,
            ),
            ("deaf", "trap '' TERM; echo up; while :; do sleep 0.02; done", r#", "stop_timeout_ms": 200"#),
        ],
    );
    let mut running = scene.start(&[]);
    assert!([running.line(), running.line()].iter().all(|line| line.ends_with("] up")));
    let begin = Instant::now();
    running.signal("TERM");
    let (status, _, err) = running.end();
    assert_eq!((status, err.as_str()), (0, "claw-init: killed after 200 ms: deaf\n"));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// The container's own time ends what was not even asked yet.
#[test]
fn all_together_have_the_containers_time() {
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.02; done";
    let scene = shells("time", &[("main", deaf, r#", "after": ["db"]"#), ("db", deaf, "")]);
    let path = scene.0.join("init.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("5000", "300")).unwrap();
    let mut running = scene.start(&[]);
    assert!([running.line(), running.line()].iter().all(|line| line.ends_with("] up")));
    running.signal("TERM");
    let (status, _, err) = running.end();
    assert_eq!(status, 137);
    assert_eq!(err, "claw-init: killed after 300 ms: main\nclaw-init: killed after 300 ms: db\n");
}

#[test]
fn one_may_be_stopped_before_all_have_started() {
    let ready = r#", "ready": {"exec": ["/bin/false"]}"#;
    let scene = shells("early", &[("main", "exit 9", r#", "after": ["db"]"#), ("db", "echo up; exec sleep 60", ready)]);
    let mut running = scene.start(&[]);
    assert_eq!(running.line(), "[db] up");
    running.signal("TERM");
    assert_eq!(running.end(), (0, String::new(), String::new()));
}

#[test]
fn lines_are_whole_whatever_is_written() {
    let script = "printf 'a\\nb'; sleep 0.1; printf 'c\\n\\n'; head -c 40000 /dev/zero | tr '\\0' x; printf 'end'";
    let scene = shells("lines", &[("main", script, ""), ("side", "sleep 60", "")]);
    let output = scene.run(&[]);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines[..3], ["[main] a", "[main] bc", "[main] "]);
    assert!(lines.iter().all(|line| line.starts_with("[main] ") && line.len() <= 7 + (16 << 10)));
    let text: String = lines[3..].iter().map(|line| &line[7..]).collect();
    assert_eq!(text, format!("{}end", "x".repeat(40_000)));
    assert!(stdout(&output).ends_with('\n'));
}

#[test]
fn one_alone_has_the_containers_streams() {
    let scene = shells("alone", &[("app", "echo plain; cat; exit 2", "")]);
    let mut child =
        scene.command(&[]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"given\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), "plain\ngiven\n"));
}

#[test]
fn further_options_are_the_main_ones() {
    let scene = shells("options", &[("side", "sleep 60", r#", "main": false"#), ("app", "echo $0 $1", "")]);
    assert_eq!(stdout(&scene.run(&["-x", "y"])), "[app] -x y\n");
    assert_eq!(stdout(&scene.run(&["echo", "alone"])), "alone\n");
}

#[test]
fn health_is_everyones_and_names_who_fails() {
    let exec = |file: &str| format!(r#", "health": {{"exec": ["/bin/test", "-e", "DIR/{file}"]}}"#);
    let scene = shells("health", &[("main", "", &exec("a")), ("db", "", &exec("b")), ("quiet", "", "")]);
    let failing = |scene: &Scene| {
        let output = scene.run(&["health"]);
        let mut lines: Vec<String> = stderr(&output).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        (output.status.code(), lines)
    };
    let says = |name: &str| format!("claw-init: unhealthy: {name}: `/bin/test` ended with status 1");
    assert_eq!(failing(&scene), (Some(1), vec![says("db"), says("main")]));
    fs::write(scene.0.join("a"), "").unwrap();
    assert_eq!(failing(&scene), (Some(1), vec![says("db")]));
    fs::write(scene.0.join("b"), "").unwrap();
    assert_eq!(failing(&scene), (Some(0), vec![]));

    // They are asked at once: two that do not answer take the time of one.
    let slow = r#", "health": {"exec": ["/bin/sleep", "60"], "timeout_ms": 400}"#;
    let scene = shells("slow", &[("main", "", slow), ("db", "", slow), ("web", "", slow)]);
    let begin = Instant::now();
    assert_eq!(scene.run(&["health"]).status.code(), Some(1));
    assert!(begin.elapsed() < Duration::from_millis(1100), "{:?}", begin.elapsed());
}
