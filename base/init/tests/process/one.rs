//! One process: its status, its signals, its end.

use crate::scene::{eventually, program, stderr, stdout, Scene};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn the_program_is_small_and_needs_nothing() {
    let bytes = fs::read(program()).unwrap();
    assert!(bytes.len() < 400_000, "{} bytes", bytes.len());
    // The type of the ELF file is "executable", not "shared object", and no interpreter is named in it.
    assert_eq!(bytes[16], 2);
    assert!(!bytes.windows(8).any(|window| window == b"ld-linux" || window == b"ld-musl-"));
}

#[test]
fn the_status_is_the_childs() {
    assert_eq!(Scene::script("status-0", "exit 0").run(&[]).status.code(), Some(0));
    assert_eq!(Scene::script("status-7", "exit 7").run(&[]).status.code(), Some(7));
    assert_eq!(Scene::script("status-9", "kill -9 $$").run(&[]).status.code(), Some(137));
}

#[test]
fn a_program_that_does_not_start_has_the_shells_status() {
    let scene = Scene::script("start", "exit 0");
    fs::write(scene.0.join("text"), "x").unwrap();
    let missing = scene.run(&["/no/such/program"]);
    assert_eq!(missing.status.code(), Some(127), "{}", stderr(&missing));
    let not_executable = scene.run(&[scene.0.join("text").to_str().unwrap()]);
    assert_eq!(not_executable.status.code(), Some(126), "{}", stderr(&not_executable));
}

#[test]
fn arguments_replace_the_command_or_add_options_to_it() {
    let scene = Scene::new("args", r#"{"version": 1, "command": ["/bin/echo", "baked"]}"#);
    assert_eq!(stdout(&scene.run(&[])), "baked\n");
    assert_eq!(stdout(&scene.run(&["run"])), "baked\n");
    assert_eq!(stdout(&scene.run(&["--more", "x"])), "baked --more x\n");
    assert_eq!(stdout(&scene.run(&["echo", "other"])), "other\n");
    assert_eq!(stdout(&scene.run(&["run", "--", "echo", "--", "health"])), "-- health\n");
}

#[test]
fn what_is_not_understood_is_said() {
    let scene = Scene::script("usage", "exit 0");
    for args in [&["health", "x"][..], &["render", "--chekc"], &["version", "x"], &[""]] {
        let output = scene.run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(stderr(&output).contains("usage: claw-init"), "{}", stderr(&output));
    }
    assert!(stdout(&scene.run(&["version"])).starts_with("claw-init 0."));
    fs::remove_file(scene.0.join("init.json")).unwrap();
    let output = scene.run(&[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("init.json: No such file"), "{}", stderr(&output));
}

#[test]
fn children_get_ordinary_signals_and_their_own_group() {
    let scene =
        Scene::new("mask", r#"{"version": 1, "command": ["/bin/cat", "/proc/self/status", "/proc/self/stat"]}"#);
    let output = scene.run(&[]);
    let mask = |field: &str| {
        let line = stdout(&output).lines().find(|line| line.starts_with(field)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    // Rust programs ignore SIGPIPE, number 13; the programs they start must not.
    assert_eq!(mask("SigIgn:") & 1 << 12, 0);
    let stat: Vec<&str> = stdout(&output).lines().last().unwrap().split(' ').collect();
    assert_eq!(stat[0], stat[4], "the process leads its group");
}

#[test]
fn a_request_to_stop_reaches_the_child_which_may_take_its_time() {
    let scene = Scene::script(
        "stop",
        "exec 2>/dev/null; trap 'echo got; sleep 0.1; exit 3' TERM; echo up; while :; do sleep 0.02; done",
    );
    let mut running = scene.start(&[]);
    assert_eq!(running.line(), "up");
    running.signal("TERM");
    let (status, out, err) = running.end();
    assert_eq!((status, out.as_str(), err.as_str()), (3, "got\n", ""));
}

#[test]
fn the_request_is_put_as_the_manifest_says() {
    let manifest = r#"{"version": 1, "stop_signal": "SIGINT", "stop_timeout_ms": 5000,
        "command": ["/bin/sh", "-c", "exec 2>/dev/null; trap 'echo int; exit 0' INT; trap 'echo term' TERM; echo up; while :; do sleep 0.02; done"]}"#;
    for signal in ["TERM", "INT"] {
        let scene = Scene::new(&format!("stop-{signal}"), manifest);
        let mut running = scene.start(&[]);
        assert_eq!(running.line(), "up");
        running.signal(signal);
        assert_eq!(running.end(), (0, "int\n".to_owned(), String::new()));
    }
}

#[test]
fn what_does_not_stop_is_killed_with_its_group() {
    let scene = Scene::script("kill", "trap '' TERM; sleep 60 & echo $!; while :; do sleep 0.02; done");
    let mut running = scene.start(&[]);
    let helper = format!("/proc/{}/stat", running.line());
    let begin = Instant::now();
    running.signal("TERM");
    let (status, _, err) = running.end();
    assert_eq!((status, err.as_str()), (137, "claw-init: killed after 300 ms: main\n"));
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    // Who reaps it after its parents differs; dead it is at once.
    eventually("the helper has ended", || fs::read_to_string(&helper).map_or(true, |stat| stat.contains(") Z ")));
}

#[test]
fn other_signals_are_passed_on() {
    let scene = Scene::script(
        "forward",
        "exec 2>/dev/null; trap 'echo hup' HUP; trap 'echo usr1; exit 0' USR1; echo up; while :; do sleep 0.02; done",
    );
    let mut running = scene.start(&[]);
    assert_eq!(running.line(), "up");
    running.signal("HUP");
    assert_eq!(running.line(), "hup");
    running.signal("USR1");
    assert_eq!(running.end(), (0, "usr1\n".to_owned(), String::new()));
}

#[test]
fn orphans_are_adopted_and_reaped() {
    // Each subshell ends at once and leaves its sleep to PID 1, here to claw-init.
    let script = "for i in 1 2 3; do (sleep 0.2 & echo $!); done; echo done; sleep 60";
    let scene = Scene::script("orphans", script);
    let mut running = scene.start(&[]);
    let init = running.child.id().to_string();
    let orphans: Vec<String> = std::iter::from_fn(|| Some(running.line()).filter(|line| line != "done")).collect();
    assert_eq!(orphans.len(), 3);
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1).map(str::to_owned)
    };
    assert!(orphans.iter().all(|pid| parent(pid).is_none_or(|parent| parent == init)));
    eventually("all orphans are reaped", || orphans.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    running.signal("TERM");
    assert_eq!(running.end().0, 143);
}

#[test]
fn a_storm_of_short_lives_is_survived() {
    let scene = Scene::script("storm", "i=0; while [ $i -lt 300 ]; do (:) & i=$((i+1)); done; wait; exit 5");
    assert_eq!(scene.run(&[]).status.code(), Some(5));
}

#[test]
fn secrets_reach_the_child_and_the_config_and_nothing_else() {
    let scene = Scene::new(
        "secrets",
        r#"{"version": 1, "secrets_dir": "DIR/secrets", "env": {"PORT": "1"},
            "config": [{"path": "DIR/state/c.json", "format": "json", "overrides": [
                {"env": "PORT", "key": ["port"], "type": "integer"}, {"env": "API_KEY", "key": ["auth", "key"], "secret": true}
            ]}],
            "command": ["/bin/sh", "-c", "echo $API_KEY; cat DIR/state/c.json; cat /proc/$PPID/cmdline /proc/$$/cmdline | grep -c 'hunter[0-9]'"]}"#,
    );
    fs::create_dir(scene.0.join("secrets")).unwrap();
    fs::write(scene.0.join("secrets/api_key"), "hunter2\n").unwrap();
    let output = scene.run(&[]);
    assert_eq!(stdout(&output), "hunter2\n{ \"port\": 1, \"auth\": { \"key\": \"hunter2\" } }\n0\n");
    assert_eq!(stderr(&output), "");

    let check = scene.run(&["render", "--check"]);
    assert_eq!(stdout(&check), format!("{}/state/c.json: 2 overridden\n", scene.0.display()));
    let bad = scene.command(&["render", "--check"]).env("PORT", "x").output().unwrap();
    assert_eq!((bad.status.code(), stderr(&bad)), (Some(78), "claw-init: PORT: expected a whole number, not `x`\n"));
}

#[test]
fn health_is_the_exit_status() {
    let health = |health: &str| format!(r#"{{"version": 1, "command": ["a"], "health": {health}}}"#);
    let scene = Scene::new("health", &health(r#"{"exec": ["/bin/test", "-e", "DIR/up"], "timeout_ms": 2000}"#));
    let down = scene.run(&["health"]);
    assert_eq!(down.status.code(), Some(1));
    assert!(stderr(&down).contains("unhealthy: `/bin/test` ended with"), "{}", stderr(&down));
    fs::write(scene.0.join("up"), "").unwrap();
    assert_eq!(scene.run(&["health"]).status.code(), Some(0));
    assert_eq!(Scene::new("health-null", &health("null")).run(&["health"]).status.code(), Some(0));
}
