//! The program for other platforms, under emulation.

use crate::scene::{has_libraries, program_for, stderr, stdout, Scene};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Each platform, the machine its ELF file names, and its emulator.
const PLATFORMS: [(&str, u8, &str); 2] = [
    ("aarch64-unknown-linux-gnu", 183, "qemu-aarch64-static"),
    ("riscv64gc-unknown-linux-gnu", 243, "qemu-riscv64-static"),
];

#[test]
fn other_platforms_have_the_same_program() {
    for (target, machine, emulator) in PLATFORMS {
        let has_emulator =
            std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(emulator).exists());
        if !has_libraries(target) || !has_emulator {
            println!("{target}: needs {emulator}, and `rustup target add {target}`");
            continue;
        }
        let program = program_for(target);
        let bytes = std::fs::read(&program).unwrap();
        assert_eq!((bytes[16], bytes[18]), (2, machine), "an executable of that machine");
        assert!(bytes.len() < 400_000, "{} bytes", bytes.len());
        everything_works(&program, emulator);
    }
}

fn everything_works(program: &Path, emulator: &str) {
    let scene = Scene::new(
        emulator,
        r#"{"version": 1, "secrets_dir": "DIR/secrets", "config": [
            {"path": "DIR/c.toml", "format": "toml", "overrides": [{"env": "PORT", "key": ["a", "port"], "type": "integer"}]},
            {"path": "DIR/c.json", "format": "json", "overrides": [{"env": "KEY", "key": ["k"], "secret": true}]}],
            "processes": [
            {"name": "main", "command": ["/bin/sh", "-c", "cat DIR/c.toml DIR/c.json; exit 3"], "after": ["side"]},
            {"name": "side", "command": ["/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; exec 2>/dev/null; while :; do sleep 0.02; done"],
             "ready": {"exec": ["/bin/test", "-d", "DIR/secrets"]}, "health": {"exec": ["/bin/test", "-e", "DIR/up"]}},
            {"name": "web", "command": ["/bin/true"], "health": {"http": {"port": 1, "path": "/"}}}]}"#,
    );
    std::fs::create_dir(scene.0.join("secrets")).unwrap();
    std::fs::write(scene.0.join("secrets/key"), "hunter2\n").unwrap();
    let run = |args: &[&str]| -> Output {
        let mut command = Command::new(emulator);
        command.arg(program).args(args).env("CLAW_INIT_MANIFEST", scene.0.join("init.json")).env("PORT", "80");
        command.stdin(Stdio::null()).output().unwrap()
    };
    assert!(stdout(&run(&["version"])).starts_with("claw-init 0."));
    let dir = scene.0.display();
    let check = run(&["render", "--check"]);
    assert_eq!(
        stdout(&check),
        format!("{dir}/c.toml: 1 overridden\n{dir}/c.json: 1 overridden\n"),
        "{}",
        stderr(&check)
    );
    let health = run(&["health"]);
    assert_eq!(health.status.code(), Some(1));
    for reason in ["side: `/bin/test` ended with status 1\n", "web: no answer from port 1: Connection refused\n"] {
        assert!(stderr(&health).contains(&format!("claw-init: unhealthy: {reason}")), "{}", stderr(&health));
    }
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let lines = "[main] [a]\n[main] port = 80\n[main] { \"k\": \"hunter2\" }\n[side] bye\n";
    assert_eq!(stdout(&output), lines, "{}", stderr(&output));
}
