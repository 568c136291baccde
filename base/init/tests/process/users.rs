//! Users: root given up, and users nobody foresaw.

use crate::scene::{stderr, stdout, Scene};
use std::fs;

/// Needs root, to be given up.
#[test]
fn root_is_given_up_for_good() {
    if fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata)).unwrap() != 0 {
        println!("not root: nothing to give up");
        return;
    }
    let scene = Scene::new(
        "root",
        r#"{"version": 1, "user": {"uid": 1234, "gid": 2345, "home": "/"},
            "volumes": [{"path": "DIR/volume", "uid": 1234, "gid": 2345, "mode": "0700"}],
            "config": [{"path": "DIR/volume/c.env", "format": "env", "overrides": [{"env": "A", "key": ["A"]}]}],
            "command": ["/bin/sh", "-c", "id -u; id -g; id -G; grep -h CapEff /proc/self/status; stat -c '%u:%g %a' DIR/volume DIR/volume/c.env"]}"#,
    );
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&scene.0, open).unwrap();
    let output = scene.command(&[]).env("A", "1").output().unwrap();
    assert_eq!(
        stdout(&output),
        "1234\n2345\n2345\nCapEff:\t0000000000000000\n1234:2345 700\n1234:2345 600\n",
        "{}",
        stderr(&output)
    );

    // The volume follows to the asked number; what lies in it keeps its owner.
    let output = scene
        .command(&["stat", "-c", "%u:%g", scene.0.join("volume").to_str().unwrap()])
        .env("CLAW_UID", "4321")
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "4321:4321\n", "{}", stderr(&output));
    let output = scene.command(&["id", "-u"]).env("CLAW_UID", "0").output().unwrap();
    assert_eq!(stdout(&output), "0\n", "{}", stderr(&output));
    let output = scene.command(&["id", "-u"]).env("CLAW_UID", "-1").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}
