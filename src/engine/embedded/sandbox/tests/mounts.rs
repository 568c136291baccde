//! What is mounted for a step, and what stays of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use engine::embedded::sandbox::{Mount, MountSource, Secret};

use crate::Check;
use crate::fixture::{ALL, Bench, Who, files};

pub(crate) const CHECKS: &[Check] = &[
    ("binds", ALL, binds),
    ("tmpfs", ALL, tmpfs),
    ("secrets", ALL, secrets),
    ("mount points do not stay", ALL, mount_points_do_not_stay),
    ("mount points stay inside", ALL, mount_points_stay_inside),
    ("read-only root", ALL, read_only_root),
    ("300 layers", ALL, many_layers),
    ("300 layers by options", ALL, many_layers_by_options),
    ("long paths", ALL, long_paths),
    ("long paths by options", ALL, long_paths_by_options),
    ("copies give the same changes", ALL, copies_give_the_same_changes),
];

pub(crate) fn bind(path: &Path, target: &str, read_only: bool) -> Mount {
    let source = MountSource::Bind { path: path.to_owned(), selector: String::new(), read_only };
    Mount { target: target.to_owned(), source }
}

fn binds(bench: &Bench, who: Who) {
    let mut job = bench.script(
        who,
        "cat /ro/file; cat /rw/file; cat /only/it; \
         if echo x > /ro/file; then exit 1; fi 2>/dev/null; if touch /ro/new; then exit 1; fi 2>/dev/null; \
         echo changed > /rw/file; touch /rw/new; cat /rw/nested/file",
    );
    let read = job.directory_with("read", "file", "one\n");
    let write = job.directory_with("write", "file", "two\n");
    job.spec.mounts = vec![
        bind(&read, "/ro", true),
        bind(&write, "/rw", false),
        bind(&read, "/rw/nested", true),
        Mount {
            target: "/only/it".to_owned(),
            source: MountSource::Bind { path: read.clone(), selector: "/../file".to_owned(), read_only: true },
        },
    ];
    assert_eq!(job.succeed().stdout, "one\ntwo\none\none\n");
    assert_eq!(fs::read_to_string(write.join("file")).expect("it is there"), "changed\n");
    assert!(write.join("new").exists());
    assert_eq!(fs::read_to_string(read.join("file")).expect("it is there"), "one\n");
}

fn tmpfs(bench: &Bench, who: Who) {
    let script = "stat -f -c %T /t; stat -c %a /t; touch /t/x; dd if=/dev/zero of=/t/big bs=1024 count=1000 2>/dev/null && exit 1; \
                  stat -c %s /t/big";
    let mut job = bench.script(who, script);
    job.spec.mounts = vec![Mount { target: "/t".to_owned(), source: MountSource::Tmpfs { size: Some(256 << 10) } }];
    let ended = job.succeed();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[..2], ["tmpfs", "1777"]);
    assert!(lines[2].parse::<u64>().is_ok_and(|size| size <= 256 << 10));
    assert!(!ended.upper.join("t").exists());
}

fn secrets(bench: &Bench, who: Who) {
    let value = "correct horse battery staple";
    let script = "cat /run/secrets/deep/token; echo; stat -c %a:%u:%g /run/secrets/deep/token; stat -f -c %T /run/secrets/deep/token; \
                  if echo x > /run/secrets/deep/token; then exit 1; fi 2>/dev/null; cat /proc/1/environ";
    let mut job = bench.script(who, script);
    let (uid, gid) = if who == Who::Single { (0, 0) } else { (1001, 1002) };
    job.spec.mounts = vec![Mount {
        target: "/run/secrets/deep/token".to_owned(),
        source: MountSource::Secret { content: Secret(value.as_bytes().to_vec()), mode: 0o440, uid, gid },
    }];
    assert!(!format!("{:?}", job.spec).contains("correct"), "secrets do not show in debug output");
    let directory = job.directory.clone();
    let ended = job.succeed();
    assert!(ended.stdout.starts_with(&format!("{value}\n440:{uid}:{gid}\ntmpfs\n")), "{}", ended.stdout);
    let kept = files(&directory)
        .into_iter()
        .find(|path| fs::read(path).is_ok_and(|content| String::from_utf8_lossy(&content).contains("battery")));
    assert_eq!(kept, None, "the secret is on disk");
    assert!(!ended.upper.join("run").exists(), "its mount point stayed");
}

fn mount_points_do_not_stay(bench: &Bench, who: Who) {
    // Nothing is there: /proc, /dev and /sys have to be made too.
    let mut job = bench.job(who, ["/bin/sh", "-c", "echo kept > /kept; echo hi > /made/by/hand/file; ls /etc"]);
    let bare = job.directory.join("bare");
    for directory in ["bin", "lib", "lib64", "usr"] {
        let from = bench.rootfs(who).join(directory);
        if from.exists() {
            copy_tree(&from, &bare.join(directory));
        }
    }
    for path in files(&bare).iter().chain([&bare]) {
        bench.give(path, who);
    }
    job.layers = vec![bare];
    let cache = job.directory_with("cache", "file", "");
    job.spec.mounts = vec![bind(&cache, "/made/by/hand", false), bind(&cache.join("file"), "/made/a/file", true)];
    let ended = job.succeed();
    assert_eq!(ended.stdout, "hosts\nresolv.conf\n");
    assert_eq!(names(&ended.upper), ["kept"]);
    // BuildKit's old definitions keep the directories above.
    let mut job = bench.script(who, "true");
    job.spec.mounts = vec![bind(&cache, "/made/by/hand", false)];
    job.spec.remove_parents = false;
    let ended = job.succeed();
    assert_eq!(names(&ended.upper.join("made")), ["by"]);
    assert_eq!(names(&ended.upper.join("made/by")), [""; 0]);
}

fn mount_points_stay_inside(bench: &Bench, who: Who) {
    let outside = bench.helper().with_file_name("outside");
    let mut job = bench.script(who, "ls /etc/passwd /link/inside > /dev/null; cat /absolute/inside");
    let layer = job.directory_with("layer", "unused", "");
    std::os::unix::fs::symlink(&outside, layer.join("absolute")).expect("a link");
    std::os::unix::fs::symlink("../../../../somewhere", layer.join("link")).expect("a link");
    let file = job.directory_with("source", "inside", "in\n");
    job.layers.push(layer);
    job.spec.mounts = vec![bind(&file, "/link", true), bind(&file, "/absolute", true)];
    assert_eq!(job.succeed().stdout, "in\n");
    assert!(!outside.exists(), "a link led out of the root filesystem");
}

fn read_only_root(bench: &Bench, who: Who) {
    let mut job = bench
        .script(who, "if touch /x; then exit 1; fi 2>/dev/null; touch /cache/y /dev/shm/z; cat /etc/hosts > /dev/null");
    let cache = job.directory_with("cache", "x", "");
    job.spec.read_only_root = true;
    job.spec.mounts = vec![bind(&cache, "/cache", false)];
    let ended = job.succeed();
    assert!(cache.join("y").exists());
    // Making the mount points for /etc/hosts and /etc/resolv.conf has copied the directory up, nothing else.
    assert_eq!(names(&ended.upper), ["etc"]);
    assert_eq!(names(&ended.upper.join("etc")), [""; 0]);
}

fn many_layers(bench: &Bench, who: Who) {
    layers(bench, who, None);
}

fn many_layers_by_options(bench: &Bench, who: Who) {
    layers(bench, who, Some("options"));
}

fn layers(bench: &Bench, who: Who, method: Option<&'static str>) {
    let mut job = bench.script(who, "cat /top /layer/0 /layer/299; ls /layer | grep -c .; rm /layer/7; mkdir /layer/7");
    job.method = method;
    for number in 0..300 {
        let layer = job.directory.join(format!("sha256-{number:0>64}/fs"));
        fs::create_dir_all(layer.join("layer")).expect("a directory");
        fs::write(layer.join("layer").join(number.to_string()), format!("{number}\n")).expect("a file");
        fs::write(layer.join("top"), format!("top {number}\n")).expect("a file");
        for path in files(&layer).iter().chain([&layer]) {
            bench.give(path, who);
        }
        job.layers.push(layer);
    }
    assert_eq!(job.succeed().stdout, "top 299\n0\n299\n300\n");
}

fn long_paths(bench: &Bench, who: Who) {
    long(bench, who, None);
}

fn long_paths_by_options(bench: &Bench, who: Who) {
    long(bench, who, Some("options"));
}

fn long(bench: &Bench, who: Who, method: Option<&'static str>) {
    let mut job = bench.script(who, "cat /deep; rm /deep");
    job.method = method;
    let mut layer = job.directory.clone();
    for name in ["a", "b:c", "d,e", "f"] {
        layer.push(name.repeat(200 / name.len()));
    }
    fs::create_dir_all(&layer).expect("a directory");
    fs::write(layer.join("deep"), "found\n").expect("a file");
    for path in files(&job.directory) {
        bench.give(&path, who);
    }
    job.layers.push(layer);
    let ended = job.succeed();
    assert_eq!(ended.stdout, "found\n");
    assert_eq!(shape(&ended.upper)["deep"], "whiteout");
}

fn copies_give_the_same_changes(bench: &Bench, who: Who) {
    let script = "
        echo changed > /a/file; rm -r /gone /a/removed; mkdir -p /new/dir; touch /new/dir/file
        rm -r /again; mkdir /again; touch /again/other
        mv /moved /a/moved; touch -d 2001-02-03T04:05:06Z /a/touched; rm -r /twin; echo dir > /twin";
    let run = |method| {
        let mut job = bench.script(who, script);
        job.method = method;
        let layer = job.directory.join("layer");
        for file in [
            "a/file",
            "a/kept",
            "a/removed",
            "a/touched",
            "gone/x/y",
            "again/a",
            "again/b/c",
            "moved/file",
            "twin/x",
            "still/x",
        ] {
            fs::create_dir_all(layer.join(file).parent().expect("a parent")).expect("a directory");
            fs::write(layer.join(file), file).expect("a file");
        }
        for path in files(&layer).iter().chain([&layer]) {
            bench.give(path, who);
        }
        job.layers.push(layer);
        shape(&job.succeed().upper)
    };
    let (mut overlay, mut copy) = (run(None), run(Some("copy")));
    // A directory made anew hides what was there, or each of the files that were there is marked as gone: the same.
    for changes in [&mut overlay, &mut copy] {
        let gone = |path: &str| changes.get(path).is_some_and(|what| what == "whiteout");
        assert!(changes["again"].ends_with(" opaque") || gone("again/a") && gone("again/b"), "{changes:?}");
        changes
            .retain(|path, what| !(path.starts_with("again") && (what == "whiteout" || what.starts_with("directory"))));
    }
    assert_eq!(overlay["gone"], "whiteout");
    assert_eq!(overlay["a/file"], "file 644 changed\n");
    assert_eq!(copy, overlay);
}

/// What lies in a snapshot, by path.
fn shape(directory: &Path) -> BTreeMap<String, String> {
    let describe = |path: &Path| {
        let meta = fs::symlink_metadata(path).expect("it is there");
        let mode = meta.permissions().mode() & 0o7777;
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            "whiteout".to_owned()
        } else if meta.is_dir() {
            let opaque = ["trusted.overlay.opaque", "user.overlay.opaque"]
                .iter()
                .any(|name| rustix::fs::lgetxattr(path, *name, &mut [0_u8; 1][..]).is_ok());
            format!("directory {mode:o}{}", if opaque { " opaque" } else { "" })
        } else {
            format!("file {mode:o} {}", fs::read_to_string(path).expect("it can be read"))
        }
    };
    let relative = |path: &Path| path.strip_prefix(directory).expect("below").display().to_string();
    files(directory).iter().map(|path| (relative(path), describe(path))).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
