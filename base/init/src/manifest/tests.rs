use super::*;

const FULL: &str = r#"{
  "version": 1,
  "user": { "uid": 1000, "gid": 100, "home": "/home/node" },
  "env": { "TZ": "UTC", "A": "" },
  "secrets_dir": "/secrets",
  "volumes": [{ "path": "/data", "uid": 1000, "gid": 100, "mode": "0750" }],
  "config": [{
    "default": "/usr/share/claw/a.json", "path": "/data/a.json", "format": "json5", "overwrite": "merge",
    "overrides": [{ "env": "A_PORT", "key": ["gateway", "port"], "type": "integer", "secret": true }, { "env": "A_TOKEN" }]
  }],
  "processes": [
    { "name": "main", "command": ["/bin/a", "-x"], "after": ["db", "setup"] },
    { "name": "setup", "command": ["/bin/s"], "ready": "completed", "restart": "never" },
    { "name": "db", "command": ["/bin/b"], "env": { "D": "1" }, "cwd": "/srv", "restart": "always", "max_restarts": 3,
      "after": ["setup"], "ready": { "exec": ["/bin/ready"], "timeout_ms": 9, "within_ms": 7000 },
      "stop_signal": "SIGQUIT", "stop_timeout_ms": 5, "health": { "unix": "/run/db.sock" } }
  ],
  "health": { "http": { "port": 18789, "port_env": "A_PORT", "path": "/healthz", "timeout_ms": 3000 } },
  "stop_signal": "SIGINT",
  "stop_timeout_ms": 330000
}"#;

#[test]
fn a_full_manifest_is_read() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.user, Some(User { uid: 1000, gid: 100, home: "/home/node".into() }));
    assert_eq!(manifest.env, [("TZ".to_owned(), "UTC".to_owned()), ("A".to_owned(), String::new())]);
    assert_eq!(manifest.secrets_dir, "/secrets");
    assert_eq!(manifest.volumes, [Volume { path: "/data".into(), uid: 1000, gid: 100, mode: 0o750 }]);
    let [config] = manifest.config.as_slice() else { panic!("{:?}", manifest.config) };
    assert_eq!((config.format, config.overwrite), (Format::Json5, Overwrite::Merge));
    assert_eq!(
        config.overrides,
        [
            Override {
                env: "A_PORT".into(),
                key: vec!["gateway".into(), "port".into()],
                kind: Kind::Integer,
                secret: true
            },
            Override { env: "A_TOKEN".into(), key: vec![], kind: Kind::String, secret: false },
        ]
    );
    let stop = Stop { signal: Signal::INT, timeout: Duration::from_secs(330) };
    assert_eq!(manifest.stop, stop);
    let main = Process { after: vec![2, 1], ..Process::only(vec!["/bin/a".into(), "-x".into()], stop) };
    let setup = Process {
        name: "setup".into(),
        is_main: false,
        ready: Ready::Completed,
        ..Process::only(vec!["/bin/s".into()], stop)
    };
    let ready = Health { probe: Probe::Exec(vec!["/bin/ready".into()]), timeout: Duration::from_millis(9) };
    let db = Process {
        name: "db".into(),
        command: vec!["/bin/b".into()],
        env: vec![("D".into(), "1".into())],
        cwd: Some("/srv".into()),
        is_main: false,
        restart: Restart::Always,
        max_restarts: Some(3),
        after: vec![1],
        ready: Ready::Probed { health: ready, within: Duration::from_secs(7) },
        stop: Stop { signal: Signal::parse("QUIT").unwrap(), timeout: Duration::from_millis(5) },
        health: Some(Health { probe: Probe::Unix("/run/db.sock".into()), timeout: PROBE_TIMEOUT }),
    };
    assert_eq!(manifest.processes, [main, setup, db]);
    let probe = Probe::Http { port: 18789, port_env: Some("A_PORT".into()), path: "/healthz".into() };
    assert_eq!(manifest.health, Some(Health { probe, timeout: Duration::from_secs(3) }));
}

#[test]
fn a_small_manifest_has_sensible_defaults() {
    let manifest = Manifest::parse(r#"{"version": 1, "command": ["/bin/a"], "health": null, "user": null}"#).unwrap();
    assert_eq!(manifest.processes, [Process::only(vec!["/bin/a".into()], manifest.stop)]);
    assert_eq!((manifest.user, manifest.health), (None, None));
    assert_eq!(manifest.stop, Stop { signal: Signal::TERM, timeout: Duration::from_secs(10) });
    assert_eq!(manifest.secrets_dir, "/run/secrets");
}

/// The main process is the one that says so, or else the first that does not say it is not; the others are kept going.
#[test]
fn one_process_is_the_main_one() {
    for (marks, main) in [(["", ""], 0), (["", r#","main":true"#], 1), ([r#","main":false"#, ""], 1)] {
        let [first, second] = marks;
        let text = format!(
            r#"{{"version": 1, "processes": [{{"name": "a", "command": ["a"]{first}}}, {{"name": "b", "command": ["b"]{second}}}]}}"#
        );
        for (index, process) in Manifest::parse(&text).unwrap().processes.iter().enumerate() {
            let restart = if index == main { Restart::Never } else { Restart::OnFailure };
            assert_eq!((process.is_main, process.restart), (index == main, restart), "{text}");
        }
    }
}

#[test]
fn mistakes_among_processes_are_named() {
    for (processes, message) in [
        (r#"{"name": "a b", "command": ["a"]}"#, "`name` must be a name of letters, digits, `.`, `_` and `-`"),
        (
            r#"{"name": "a", "command": ["a"], "on_exit": "stop"}"#,
            "entry 1 of `processes` has an unknown key `on_exit`",
        ),
        (
            r#"{"name": "a", "command": ["a"]}, {"name": "a", "command": ["a"]}"#,
            "`processes` must name at least one process, and each name once",
        ),
        (
            r#"{"name": "a", "command": ["a"], "main": true}, {"name": "b", "command": ["a"], "main": true}"#,
            "only one of `processes` may be the main one",
        ),
        (r#"{"name": "a", "command": ["a"], "main": false}"#, "one of `processes` must be the main one"),
        (r#"{"name": "a", "command": ["a"], "after": ["b"]}"#, "`a` comes after `b`, which is none of them"),
        (r#"{"name": "a", "command": ["a"], "after": ["a"]}"#, "`a` comes after itself"),
        (
            r#"{"name": "m", "command": ["a"]}, {"name": "a", "command": ["a"], "after": ["b"]},
               {"name": "b", "command": ["a"], "after": ["a"]}"#,
            "`a` comes after itself",
        ),
        (
            r#"{"name": "a", "command": ["a"], "restart": "sometimes"}"#,
            "`restart` must be always, on-failure or never, not `sometimes`",
        ),
        (
            r#"{"name": "a", "command": ["a"], "ready": "completed"}"#,
            "`a` never completes: it is the main one, or always started again",
        ),
        (
            r#"{"name": "m", "command": ["a"]}, {"name": "a", "command": ["a"], "ready": "completed", "restart": "always"}"#,
            "`a` never completes: it is the main one, or always started again",
        ),
        (
            r#"{"name": "a", "command": ["a"], "ready": "soon"}"#,
            "`ready` must be started, completed or a probe, not `soon`",
        ),
        (
            r#"{"name": "a", "command": ["a"], "ready": {"within_ms": 1}}"#,
            "`ready` must have exactly one of `http`, `exec` and `unix`",
        ),
        (r#"{"name": "a", "command": ["a"], "max_restarts": 1}"#, "`a` is never started again, and has `max_restarts`"),
        (r#"{"name": "a", "command": ["a"], "cwd": "x"}"#, "`cwd` must be an absolute path"),
        (r#"{"name": "a", "command": ["a"], "env": {"": "x"}}"#, "`` is no name of a variable"),
    ] {
        let manifest = format!(r#"{{"version": 1, "processes": [{processes}]}}"#);
        assert_eq!(Manifest::parse(&manifest).unwrap_err(), message, "{manifest}");
    }
}

#[test]
fn mistakes_among_configurations_are_named() {
    for (config, message) in [
        (
            r#"{"path": "/a", "format": "env"}, {"path": "/a", "format": "env"}"#,
            "two entries of `config` have the path /a",
        ),
        (
            r#"{"path": "/a", "format": "env"}, {"default": "/a", "path": "/b", "format": "env"}"#,
            "the default /a would be written to",
        ),
        (r#"{"default": "/a", "path": "/a", "format": "env"}"#, "the default /a would be written to"),
        (
            r#"{"path": "/a", "format": "env", "mode": "0640", "overrides": [{"env": "A", "secret": true}]}"#,
            "/a may hold a secret, and its `mode` lets others read it",
        ),
    ] {
        let manifest = format!(r#"{{"version": 1, "command": ["a"], "config": [{config}]}}"#);
        assert_eq!(Manifest::parse(&manifest).unwrap_err(), message, "{manifest}");
    }
}

#[test]
fn a_probe_may_be_a_program_or_a_socket() {
    let health = |health: &str| {
        Manifest::parse(&format!(r#"{{"version": 1, "command": ["a"], "health": {health}}}"#))
            .map(|manifest| manifest.health.unwrap())
    };
    let exec = Health { probe: Probe::Exec(vec!["a".into(), "b".into()]), timeout: Duration::from_millis(7) };
    assert_eq!(health(r#"{"exec": ["a", "b"], "timeout_ms": 7}"#), Ok(exec));
    let unix = Health { probe: Probe::Unix("/run/a.sock".into()), timeout: PROBE_TIMEOUT };
    assert_eq!(health(r#"{"unix": "/run/a.sock"}"#), Ok(unix));
    assert_eq!(health("{}"), Err("`health` must have exactly one of `http`, `exec` and `unix`".into()));
}

/// Each manifest has one mistake, and the message names it.
#[test]
fn mistakes_are_named() {
    for (manifest, message) in [
        ("{", "line 1, column 2: expected a key in double quotes"),
        ("[]", "the manifest must be an object"),
        (r#"{"command": ["a"]}"#, "the manifest lacks `version`"),
        (r#"{"version": 2}"#, "version 2 of the manifest is not known; this claw-init reads version 1"),
        (r#"{"version": 1}"#, "the manifest must have either `command` or `processes`"),
        (r#"{"version": 1, "command": []}"#, "`command` must be a program and its arguments"),
        (r#"{"version": 1, "command": "a b"}"#, "`command` must be a list"),
        (r#"{"version": 1, "command": ["a", 1]}"#, "entry 2 of `command` must be a string"),
        (r#"{"version": 1, "command": ["a\u0000"]}"#, "`command` must be a program and its arguments"),
        (r#"{"version": 1, "command": ["a"], "commnad": 1}"#, "the manifest has an unknown key `commnad`"),
        (r#"{"version": 1, "version": 1, "command": ["a"]}"#, "the manifest has an unknown key `version`"),
        (
            r#"{"version": 1, "command": ["a"], "stop_signal": "SIGFOO"}"#,
            "`stop_signal` must be a signal such as SIGTERM, not `SIGFOO`",
        ),
        (
            r#"{"version": 1, "command": ["a"], "stop_timeout_ms": -1}"#,
            "`stop_timeout_ms` must be a whole number in its range",
        ),
        (
            r#"{"version": 1, "command": ["a"], "user": {"uid": 4294967296}}"#,
            "`uid` must be a whole number in its range",
        ),
        (r#"{"version": 1, "command": ["a"], "user": {"uid": 1, "home": "x"}}"#, "`home` must be an absolute path"),
        (r#"{"version": 1, "command": ["a"], "env": {"A=B": ""}}"#, "`A=B` is no name of a variable"),
        (
            r#"{"version": 1, "command": ["a"], "volumes": [{"path": "/a", "uid": 0, "mode": "9"}]}"#,
            "`mode` must be an octal mode such as \"0700\"",
        ),
        (
            r#"{"version": 1, "command": ["a"], "config": [{"path": "/a", "format": "ini"}]}"#,
            "`format` must be json, json5, toml, yaml or env, not `ini`",
        ),
        (r#"{"version": 1, "processes": []}"#, "`processes` must name at least one process, and each name once"),
        (
            r#"{"version": 1, "command": ["a"], "health": {"http": {"port": 70000, "path": "/"}}}"#,
            "`port` must be a whole number in its range",
        ),
        (
            r#"{"version": 1, "command": ["a"], "health": {"http": {"port": 1, "path": "/ HTTP/1.1\r\n"}}}"#,
            "`path` must be a path such as \"/health\"",
        ),
    ] {
        assert_eq!(Manifest::parse(manifest).unwrap_err(), message, "{manifest}");
    }
}

/// The other side of the manifest is `src/plan/init.rs`, whose own tests keep what it writes.
#[test]
fn what_clawbuild_writes_is_read() {
    let snapshots = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/plan/snapshots");
    let path = format!("{snapshots}/plan__tier_tests__the_manifest_of_several_processes.snap");
    let snapshot = std::fs::read_to_string(path).unwrap();
    let (_, text) = snapshot.split_once("\n---\n").unwrap();
    let manifest = Manifest::parse(text).unwrap();
    let names: Vec<&str> = manifest.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["sample", "setup", "companion"]);
    assert!(manifest.health.is_some() && manifest.processes[0].is_main);
}
