//! Users and what is theirs: root given up, users nobody foresaw, volumes of any owner, a root that is read-only.

use crate::scene::{eventually, program, stderr, stdout, Scene};
use std::fs;
use std::os::unix::fs::{chown, lchown, symlink, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Whether what only root may do can be tested. Where it must be, it is no choice.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let required = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
    assert!(is_root || !required.split(',').any(|what| what == "root"), "not root");
    is_root
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// Runs a shell script as root, and the program in it as `$INIT`, in new namespaces.
fn unshared(scene: &Scene, options: &[&str], script: &str) -> Output {
    let mut command = Command::new("unshare");
    // The tester's own, which images do not have.
    command.env_remove("HOME");
    command.args(options).args(["sh", "-euc", script]).env("INIT", program()).env("DIR", &scene.0);
    command.env("CLAW_INIT_MANIFEST", scene.0.join("init.json")).stdin(Stdio::null()).output().unwrap()
}

/// Needs root, to be given up.
#[test]
fn root_is_given_up_for_good() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(
        "root",
        r#"{"version": 1, "user": {"uid": 1234, "gid": 2345, "home": "/"},
            "volumes": [{"path": "DIR/volume", "uid": 1234, "gid": 2345, "mode": "0700"}],
            "config": [{"path": "DIR/volume/c.env", "format": "env", "overrides": [{"env": "A", "key": ["A"]}]}],
            "command": ["/bin/sh", "-c", "id -u; id -g; id -G; grep -h CapEff /proc/self/status; stat -c '%u:%g %a' DIR/volume DIR/volume/c.env"]}"#,
    );
    open(&scene);
    let output = scene.command(&[]).env("A", "1").output().unwrap();
    assert_eq!(
        stdout(&output),
        "1234\n2345\n2345\nCapEff:\t0000000000000000\n1234:2345 700\n1234:2345 600\n",
        "{}",
        stderr(&output)
    );

    // The volume follows to the asked number.
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

fn open(scene: &Scene) {
    fs::set_permissions(&scene.0, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A volume of another owner is given to the user with all that was that owner's, and nothing that was not.
#[test]
fn a_volume_follows_its_user_with_what_is_in_it() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(
        "volume",
        r#"{"version": 1, "user": {"uid": 1234, "gid": 2345}, "command": ["/bin/cat", "DIR/volume/deep/er/file"],
            "volumes": [{"path": "DIR/volume", "uid": 1234, "gid": 2345}]}"#,
    );
    open(&scene);
    let volume = scene.0.join("volume");
    let (deep, others, link) = (volume.join("deep/er"), volume.join("others"), volume.join("link"));
    fs::create_dir_all(&deep).unwrap();
    let outside = scene.0.join("outside");
    for file in [&deep.join("file"), &others, &outside] {
        fs::write(file, "kept").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    symlink(&outside, &link).unwrap();
    for path in [&volume, &volume.join("deep"), &deep, &deep.join("file"), &outside] {
        chown(path, Some(501), Some(20)).unwrap();
    }
    lchown(&link, Some(501), Some(20)).unwrap();
    chown(&others, Some(70), Some(70)).unwrap();

    let output = scene.run(&[]);
    assert_eq!((stdout(&output), stderr(&output)), ("kept", ""));
    for path in [&volume, &deep, &deep.join("file"), &link] {
        assert_eq!(owner(path), (1234, 2345), "{}", path.display());
    }
    assert_eq!((owner(&others), owner(&outside)), ((70, 70), (501, 20)));

    // Once it is the user's, it is not looked through again: what root put there since is root's.
    chown(deep.join("file"), Some(501), Some(20)).unwrap();
    assert_eq!(scene.run(&["true"]).status.code(), Some(0));
    assert_eq!(owner(&deep.join("file")), (501, 20));

    // A link in its place leads nowhere.
    fs::rename(&volume, scene.0.join("moved")).unwrap();
    symlink(scene.0.join("moved"), &volume).unwrap();
    let output = scene.command(&["true"]).env("CLAW_UID", "4321").output().unwrap();
    assert!(stderr(&output).contains("cannot give"), "{}", stderr(&output));
    assert_eq!(owner(&scene.0.join("moved")), (1234, 2345));
}

#[test]
fn what_is_mounted_in_a_volume_keeps_its_owner() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(
        "mounts",
        r#"{"version": 1, "user": {"uid": 1234}, "command": ["/bin/true"], "volumes": [{"path": "DIR/volume", "uid": 1234}]}"#,
    );
    open(&scene);
    let script = "mkdir -p $DIR/volume/a $DIR/volume/b $DIR/there; touch $DIR/there/x $DIR/volume/one $DIR/file
        mount --bind $DIR/there $DIR/volume/a; mount -t tmpfs tmpfs $DIR/volume/b; mount --bind $DIR/file $DIR/volume/one
        $INIT; stat -c %u $DIR/volume $DIR/volume/a $DIR/volume/a/x $DIR/volume/b $DIR/volume/one";
    let output = unshared(&scene, &["--mount"], script);
    assert_eq!(stdout(&output), "1234\n0\n0\n0\n0\n", "{}", stderr(&output));
}

/// As OpenShift does it: any number for a user, and root's group.
#[test]
fn any_user_may_run_it() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(
        "any",
        r#"{"version": 1, "user": {"uid": 1234, "gid": 2345, "home": "DIR/home"}, "secrets_dir": "DIR/secrets",
            "volumes": [{"path": "DIR/home", "uid": 1234, "gid": 2345}],
            "config": [{"path": "DIR/home/a/one.json", "format": "json", "overrides": [{"env": "KEY", "key": ["k"], "secret": true}]},
                       {"path": "DIR/home/b/two.toml", "format": "toml", "mode": "0644", "overrides": [{"env": "PORT", "key": ["port"], "type": "integer"}]}],
            "command": ["/bin/sh", "-c", "id -u; id -g; echo $HOME; cat $HOME/a/one.json $HOME/b/two.toml; stat -c '%u:%g %a' $HOME/a $HOME/a/one.json $HOME/b/two.toml"]}"#,
    );
    open(&scene);
    let (home, secrets) = (scene.0.join("home"), scene.0.join("secrets"));
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("key"), "hunter2").unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o770)).unwrap();
    chown(&home, Some(1234), Some(0)).unwrap();
    let script = "export PORT=80; exec setpriv --reuid 98765 --regid 0 --clear-groups --no-new-privs $INIT";
    let output = unshared(&scene, &["--mount"], script);
    let home = home.display();
    let expected =
        format!("98765\n0\n{home}\n{{ \"k\": \"hunter2\" }}\nport = 80\n98765:0 700\n98765:0 600\n98765:0 644\n");
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    // Another user cannot read what this one rendered, nor replace it.
    let script = "export PORT=80; exec setpriv --reuid 98766 --regid 98766 --clear-groups $INIT render";
    let output = unshared(&scene, &["--mount"], script);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("Permission denied"), "{}", stderr(&output));
}

#[test]
fn a_root_that_is_read_only_needs_but_a_place_to_write() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(
        "read-only",
        r#"{"version": 1, "user": {"uid": 1234, "gid": 2345, "home": "DIR/home"},
            "volumes": [{"path": "DIR/home", "uid": 1234, "gid": 2345}],
            "config": [{"path": "DIR/home/c.yaml", "format": "yaml", "overrides": [{"env": "A", "key": ["a", "b"]}]}],
            "command": ["/bin/sh", "-c", "id -u; cat $HOME/c.yaml; stat -c %u $HOME; touch /no 2>/dev/null || echo no"]}"#,
    );
    open(&scene);
    fs::create_dir(scene.0.join("home")).unwrap();
    let read_only = "mount --rbind / /; mount -o remount,bind,ro /; export A=x; ";
    let output =
        unshared(&scene, &["--mount"], &format!("mount -t tmpfs tmpfs $DIR/home; {read_only} cd /; exec $INIT"));
    assert_eq!(stdout(&output), "1234\na:\n  b: x\n1234\nno\n", "{}", stderr(&output));
    let output = unshared(&scene, &["--mount"], &format!("{read_only} cd /; exec $INIT"));
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).ends_with("home/c.yaml: Read-only file system\n"), "{}", stderr(&output));
}

/// Root of a user namespace that has no other users cannot become one, and does not stay root instead.
#[test]
fn root_that_cannot_be_given_up_is_an_error() {
    let scene = Scene::new("rootless", r#"{"version": 1, "user": {"uid": 1234}, "command": ["/bin/echo", "no"]}"#);
    let output = unshared(&scene, &["--user", "--map-root-user"], "exec $INIT");
    assert_eq!((output.status.code(), stdout(&output)), (Some(71), ""), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("claw-init: cannot become user 1234, group 1234: "), "{}", stderr(&output));
    // Told to, it stays what it is, which outside is an ordinary user.
    let output = unshared(&scene, &["--user", "--map-root-user"], "CLAW_UID=0 exec $INIT");
    assert_eq!(stdout(&output), "no\n", "{}", stderr(&output));
}

/// As the first process of a container, which no signal ends by itself, and with whose end everything ends.
#[test]
fn the_first_process_stops_everything() {
    let script = "(setsid sh -c 'trap : TERM; echo $$ > DIR/orphan; while :; do sleep 0.1; done' &); trap 'exit 5' TERM; echo $$; while :; do sleep 0.02; done";
    let scene = Scene::new(
        "first",
        &format!(
            r#"{{"version": 1, "stop_timeout_ms": 3000, "command": ["/bin/sh", "-c", "exec 2>/dev/null; {script}"]}}"#
        ),
    );
    let mut command = Command::new("unshare");
    // The tester's own, which images do not have.
    command.env_remove("HOME");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]).arg(program());
    command.env("CLAW_INIT_MANIFEST", scene.0.join("init.json")).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    eventually("the orphan runs", || scene.0.join("orphan").exists());
    let first = fs::read_to_string(&children).unwrap().trim().to_owned();
    let comm = fs::read_to_string(format!("/proc/{first}/comm")).unwrap();
    assert_eq!(comm, "claw-init\n");
    let status = Command::new("/bin/kill").args(["-TERM", &first]).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}
