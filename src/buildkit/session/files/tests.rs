//! What a receiver of files gets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::context::{Context, Filters};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tonic::Code;

use super::super::fixture::{Daemon, Scene, within};
use super::super::{Offer, Problem};
use super::packet::{Kind, Packet, mode};
use super::receiver::{Received, Transfer};

fn offer(root: &Path) -> Offer {
    Offer { contexts: BTreeMap::from([("context".to_owned(), root.to_owned())]), ..Offer::default() }
}

fn root(scene: &Scene) -> PathBuf {
    let root = scene.path("root");
    fs::create_dir_all(&root).expect("creates");
    root
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
    fs::write(path, content).expect("writes");
}

fn owned(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
}

async fn receive(daemon: &Daemon, filters: &Filters) -> Received {
    let transfer = Transfer::begin(daemon, "context", filters).await.expect("begins");
    transfer.run(|_| true).await.expect("receives")
}

#[tokio::test]
async fn what_travels_is_what_the_digest_is_of() {
    let scene = Scene::new();
    let root = root(&scene);
    write(&root, "dir/file", "content");
    write(&root, "dir/run.sh", "#!/bin/sh\n");
    write(&root, "empty", "");
    write(&root, "large", &"0123456789".repeat(100_000));
    write(&root, "exact", &"x".repeat(128 << 10));
    fs::create_dir(root.join("hollow")).expect("creates");
    fs::write(root.join(OsStr::from_bytes(b"odd\xff\nname")), "odd").expect("writes");
    symlink("/etc/passwd", root.join("escapes")).expect("links");
    let set = |path: &str, mode| fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("sets");
    set("dir/run.sh", 0o4755);
    set("hollow", 0o1700);
    set("empty", 0o2640);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    fs::File::open(root.join("dir/file")).expect("opens").set_modified(time).expect("sets");
    fs::File::open(root.join("dir")).expect("opens").set_modified(time).expect("sets");

    let daemon = scene.serve(offer(&root)).await;
    let received = receive(&daemon, &Filters::default()).await;
    let into = scene.path("into");
    fs::create_dir(&into).expect("creates");
    received.write_to(&into);
    let scan = |path: &Path| Context::scan(path, &Filters::default(), &scene.store).expect("scans").digest();
    assert_eq!(scan(&into), scan(&root));
    assert_eq!(daemon.journal.context("context", &Filters::default()), Some(scan(&root)));
    assert!(received.stats.iter().all(|stat| (stat.uid, stat.gid) == (0, 0)));
    for stat in received.stats.iter().filter(|stat| [&b"dir"[..], b"dir/file"].contains(&&stat.path[..])) {
        assert_eq!(stat.modified, 1_234_567_890_123_456_789);
    }
    let link = received.stats.iter().find(|stat| stat.path == b"escapes").expect("listed");
    assert_eq!((link.mode, link.size, &link.target[..]), (mode::SYMLINK | 0o777, 11, &b"/etc/passwd"[..]));
    daemon.hang_up().await;
}

#[tokio::test]
async fn only_what_is_asked_for_travels() {
    let scene = Scene::new();
    let root = root(&scene);
    for number in 0..50 {
        write(&root, &format!("d{}/file{number}", number % 5), &number.to_string());
    }
    let daemon = scene.serve(offer(&root)).await;
    let begin = async || Transfer::begin(&daemon, "context", &Filters::default()).await;
    let nothing = begin().await.expect("begins").run(|_| false).await.expect("receives");
    assert_eq!((nothing.stats.len(), nothing.contents.len()), (55, 0));
    let one = begin().await.expect("begins").run(|stat| stat.path.ends_with(b"file17")).await.expect("receives");
    assert_eq!(one.contents.values().collect::<Vec<_>>(), [b"17"]);
    daemon.hang_up().await;
}

#[tokio::test]
async fn whole_seconds_do_not_hide_a_change_and_stay_equal() {
    const SECOND: i64 = 1_000_000_000;
    let scene = Scene::new();
    let root = root(&scene);
    let put = |path: &str, content: &str, second: u64, nanoseconds: u32| {
        write(&root, path, content);
        let time = SystemTime::UNIX_EPOCH + Duration::new(second, nanoseconds);
        fs::File::open(root.join(path)).expect("opens").set_modified(time).expect("sets");
    };
    let daemon = scene.serve(offer(&root)).await;
    let mut seen = Vec::new();
    for version in ["1.2.3", "1.2.4", "1.2.3"] {
        put("configure", "x", 499_162_500, 0);
        put("package.json", version, 499_162_500, 0);
        put("later", "x", 499_162_501, 0);
        put("between", "x", 499_162_500, 1_000_000);
        let received = receive(&daemon, &Filters::default()).await;
        assert_eq!(received.paths(), ["between", "configure", "later", "package.json"]);
        let times: Vec<i64> = received.stats.iter().map(|stat| stat.modified).collect();
        let [between, configure, later, package] = times[..] else { panic!("{times:?}") };
        assert_eq!(configure, package, "none is older than the other");
        assert!(configure < between && between < later, "{times:?}");
        assert_eq!((between, configure / SECOND, later / SECOND), (499_162_500_001_000_000, 499_162_500, 499_162_501));
        seen.push(times);
    }
    assert_ne!(seen[0][3], seen[1][3]);
    assert_eq!(seen[0][2], seen[1][2], "other seconds are not concerned");
    assert_eq!(seen[0], seen[2]);
    daemon.hang_up().await;
}

#[tokio::test]
async fn patterns_arrive_however_they_are_written() {
    let scene = Scene::new();
    let root = root(&scene);
    for path in ["naïve/a b", "naïve/drop+me", "plain%41/x", "other/y"] {
        write(&root, path, path);
    }
    symlink("other/y", root.join("link")).expect("links");
    let daemon = scene.serve(offer(&root)).await;
    let paths = async |filters: Filters| {
        let received = receive(&daemon, &filters).await;
        received.paths().join(" ")
    };
    let include = |patterns: &[&str]| Filters { include: owned(patterns), ..Filters::default() };
    assert_eq!(paths(include(&["naïve", "!**/drop+me"])).await, "naïve naïve/a b");
    assert_eq!(paths(include(&["plain%41"])).await, "plain%41 plain%41/x");
    assert_eq!(paths(Filters { exclude: owned(&["*", "!other"]), ..Filters::default() }).await, "other other/y");
    assert_eq!(paths(Filters { follow_paths: owned(&["link"]), ..Filters::default() }).await, "link other other/y");
    let many: Vec<String> = (0..5000).map(|number| format!("some/directory/number/{number}")).collect();
    assert_eq!(paths(Filters { exclude: many, ..include(&["link"]) }).await, "link", "as many as there are");
    daemon.hang_up().await;
}

#[tokio::test]
async fn nothing_is_given_that_is_not_offered() {
    let scene = Scene::new();
    let root = root(&scene);
    write(&root, "dir/file", "content");
    let daemon = scene.serve(offer(&root)).await;
    for name in ["other", "", "/etc", "..", "context/.."] {
        let refused = Transfer::begin(&daemon, name, &Filters::default()).await.err().expect("refused");
        assert_eq!(refused.code(), Code::NotFound, "{name}");
        assert!(
            matches!(&daemon.journal.take_problems()[..], [Problem::NoSuchContext { name: noted }] if noted == name)
        );
    }
    let escaping =
        receive(&daemon, &Filters { follow_paths: owned(&["../../etc/passwd"]), ..Filters::default() }).await;
    assert_eq!(escaping.stats.len(), 0, "paths do not lead out");

    let refusal = async |packets: Vec<Packet>| {
        let mut transfer = Transfer::begin(&daemon, "context", &Filters::default()).await.expect("begins");
        packets.into_iter().for_each(|packet| transfer.say(packet));
        loop {
            match transfer.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was to be refused"),
                Err(status) => return status.code(),
            }
        }
    };
    let want = |id| Packet { kind: Kind::Request.into(), id, ..Packet::default() };
    let say = |kind: Kind| Packet { kind: kind.into(), ..Packet::default() };
    assert_eq!(refusal(vec![want(0)]).await, Code::InvalidArgument, "a directory");
    assert_eq!(refusal(vec![want(2)]).await, Code::InvalidArgument, "past the end");
    assert_eq!(refusal(vec![want(u32::MAX)]).await, Code::InvalidArgument, "far past the end");
    assert_eq!(refusal(vec![want(1), want(1)]).await, Code::InvalidArgument, "twice");
    assert_eq!(refusal(vec![say(Kind::Data)]).await, Code::InvalidArgument, "files of its own");
    assert_eq!(refusal(vec![say(Kind::Stat)]).await, Code::InvalidArgument, "files of its own");
    assert_eq!(refusal(vec![say(Kind::Error)]).await, Code::Aborted, "a receiver that gives up");
    let oversized = Packet { data: vec![0; 17 << 20].into(), ..say(Kind::Error) };
    assert_eq!(refusal(vec![oversized]).await, Code::OutOfRange, "longer than any message");
    daemon.hang_up().await;
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_fails_the_transfer() {
    let scene = Scene::new();
    let root = root(&scene);
    write(&root, "file", "scanned");
    let daemon = scene.serve(offer(&root)).await;
    for change in ["content", "link", "gone"] {
        write(&root, "file", "scanned");
        let mut transfer = Transfer::begin(&daemon, "context", &Filters::default()).await.expect("begins");
        transfer.next().await.expect("a list").expect("a file");
        match change {
            "content" => write(&root, "file", "SCANNED"),
            _ => fs::remove_file(root.join("file")).expect("removes"),
        }
        if change == "link" {
            symlink("/etc/passwd", root.join("file")).expect("links");
        }
        transfer.want(0);
        let status = loop {
            match transfer.next().await {
                Ok(Some(packet)) => assert!(!packet.data.starts_with(b"root:")),
                Ok(None) => panic!("{change}: it was to fail"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Aborted, "{change}");
        assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Context { .. }]), "{change}");
        let _ = fs::remove_file(root.join("file"));
    }
    daemon.hang_up().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_noted() {
    let scene = Scene::new();
    let daemon = scene.serve(offer(&scene.path("missing"))).await;
    let begin = async |filters: Filters| {
        let refused = Transfer::begin(&daemon, "context", &filters).await.err().expect("refused");
        assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Context { .. }]));
        refused.code()
    };
    assert_eq!(begin(Filters::default()).await, Code::NotFound);
    fs::create_dir(scene.path("missing")).expect("creates");
    assert_eq!(begin(Filters { exclude: owned(&["["]), ..Filters::default() }).await, Code::InvalidArgument);
    let pipe = scene.path("missing").join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("makes");
    assert_eq!(begin(Filters::default()).await, Code::FailedPrecondition);
    daemon.hang_up().await;
}

#[tokio::test]
async fn a_daemon_that_goes_away_leaves_nothing_running() {
    let scene = Scene::new();
    let root = root(&scene);
    write(&root, "large", &"x".repeat(8 << 20));
    let daemon = scene.serve(offer(&root)).await;
    let mut transfer = Transfer::begin(&daemon, "context", &Filters::default()).await.expect("begins");
    transfer.want(0);
    transfer.next().await.expect("a list").expect("a file");
    // Nobody reads the rest.
    daemon.cancel.cancel();
    within(daemon.served).await.expect("it ends");
    drop(transfer);
}

fn path_part() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("ab"), Just(".c"), Just("é")].prop_map(str::to_owned)
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![3 => path_part(), 1 => Just("*".to_owned()), 1 => Just("**".to_owned()), 1 => Just("a*".to_owned())];
    let pattern = (any::<bool>(), proptest::collection::vec(part, 1..4))
        .prop_map(|(negated, parts)| format!("{}{}", if negated { "!" } else { "" }, parts.join("/")));
    proptest::collection::vec(pattern, 0..4)
}

fn followed() -> impl Strategy<Value = Vec<String>> {
    let path = proptest::collection::vec(path_part(), 1..3).prop_map(|parts| parts.join("/"));
    proptest::collection::vec(path, 0..2)
}

/// Whatever the tree and the patterns, the daemon gets what the embedded engine would take.
#[test]
fn a_daemon_gets_what_a_scan_finds() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scene = Scene::new();
    let paths = proptest::collection::btree_map(proptest::collection::vec(path_part(), 1..4), 0..3, 1..10);
    let cases = (paths, patterns(), patterns(), followed());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) };
    let result = TestRunner::new(config).run(&cases, |(files, include, exclude, follow_paths)| {
        let place = tempfile::tempdir_in(scene.path(".")).expect("a directory");
        let [root, into] = ["root", "into"].map(|name| place.path().join(name));
        [&root, &into].iter().for_each(|path| fs::create_dir(path).expect("creates"));
        for (parts, kind) in &files {
            // A file where a directory is needed, or the other way round: the first one stays.
            let path = root.join(parts.join("/"));
            if fs::create_dir_all(path.parent().expect("a parent")).is_ok() && path.symlink_metadata().is_err() {
                match kind {
                    0 => fs::write(&path, parts.join("-")).expect("writes"),
                    1 => symlink("../a/b", &path).expect("links"),
                    _ => fs::create_dir(&path).expect("creates"),
                }
            }
        }
        let filters = Filters { include, exclude, follow_paths };
        let received = runtime.block_on(async {
            let daemon = scene.serve(offer(&root)).await;
            let received = receive(&daemon, &filters).await;
            daemon.hang_up().await;
            received
        });
        received.write_to(&into);
        let expected = Context::scan(&root, &filters, &scene.store).expect("scans");
        let arrived = Context::scan(&into, &Filters::default(), &scene.store).expect("scans");
        let paths =
            |context: &Context| context.entries().iter().map(|entry| entry.path().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(paths(&arrived), paths(&expected));
        prop_assert_eq!(arrived.digest(), expected.digest());
        Ok(())
    });
    result.expect("every case holds");
}
