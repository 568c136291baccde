//! The store between processes: several at once, killed at any moment, on a full disk.
//!
//! The test program starts itself as the other processes, so it has a `main` of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use diag::Reported as _;
use oci::Digest;
use store::{Bucket, Key, PrunePolicy, Store, StoreError};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, role, root, rest @ ..] = arguments.as_slice()
        && mark == "as-process"
    {
        return act(role, Path::new(root), rest);
    }
    let tests: [(&str, Needs, fn()); 7] = [
        ("many_processes_write_the_same", Needs::Nothing, many_processes_write_the_same),
        ("one_process_at_a_time_holds_a_lock", Needs::Nothing, one_process_at_a_time_holds_a_lock),
        ("killed_at_any_moment", Needs::Nothing, killed_at_any_moment),
        ("nobody_prunes_what_another_uses", Needs::Nothing, nobody_prunes_what_another_uses),
        ("pruning_killed_at_any_moment", Needs::Nothing, pruning_killed_at_any_moment),
        ("an_ordinary_user_removes_unreadable_directories", Needs::Nothing, unreadable_directories_are_removed),
        ("a_full_disk_leaves_the_store_whole", Needs::Root, a_full_disk_leaves_the_store_whole),
    ];
    let wanted: Vec<_> = arguments.iter().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, needs, test) in tests {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        match needs.missing() {
            None => {
                // A test that fails panics, which ends the program with a status other than zero.
                test();
                say(&format!("test {name} ... ok"));
            }
            Some(reason) => say(&format!("test {name} ... ignored ({reason})")),
        }
    }
}

/// What a test needs of the machine.
enum Needs {
    Nothing,
    /// To mount a filesystem.
    Root,
}

impl Needs {
    /// Why the test cannot run. Where `CLAWBUILD_TEST_REQUIRE` names what is missing, that is a failure.
    fn missing(&self) -> Option<&'static str> {
        let required = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
        match self {
            Self::Nothing => None,
            Self::Root if rustix::process::geteuid().is_root() => None,
            Self::Root if required.split(',').any(|name| name.trim() == "root") => panic!("root is required"),
            Self::Root => Some("needs root to mount a small filesystem"),
        }
    }
}

/// What the other processes do.
fn act(role: &str, root: &Path, rest: &[String]) {
    match role {
        "write" => {
            let store = Store::open(root).expect("opens");
            for i in 0..40_u32 {
                let bytes = content(i);
                let digest = store.put_blob(&bytes).expect("puts").digest;
                store.put_record(Bucket::Files, &Key::of([&i.to_le_bytes()[..]]), &digest).expect("puts");
            }
        }
        "count" => {
            let store = Store::open(root).expect("opens");
            let counter = root.join("cache/counter");
            for _ in 0..50 {
                let _lock = store.lock("counter").expect("locks");
                let count: u32 = fs::read_to_string(&counter).map_or(0, |text| text.parse().expect("a number"));
                fs::write(&counter, (count + 1).to_string()).expect("writes");
            }
        }
        "write-forever" => {
            let store = Store::open(root).expect("opens");
            say("open");
            for i in 0.. {
                let draft = store.temp().join("draft");
                fs::create_dir_all(draft.join("fs/deep/er")).expect("creates");
                fs::write(draft.join("fs/deep/file"), content(i)).expect("writes");
                fs::set_permissions(draft.join("fs/deep/er"), fs::Permissions::from_mode(0o000)).expect("sets");
                let digest = store.put_blob(&content(i)).expect("puts").digest;
                let name = format!("snapshot{i}");
                let _ = fs::rename(&draft, store.snapshots().join(&name));
                let _ = store::remove_tree(&draft);
                let record = (digest, name);
                store.put_record_unsynced(Bucket::Vertices, &Key::of([&i.to_le_bytes()[..]]), &record).expect("puts");
            }
        }
        "hold" => {
            let _store = Store::open(root).expect("opens");
            say("open");
            std::thread::sleep(Duration::from_secs(60));
        }
        "prune-all" => {
            let policy = PrunePolicy { all: true, ..PrunePolicy::default() };
            say("go");
            Store::prune(root, &policy).expect("prunes");
        }
        "leave-unreadable" => {
            let store = Store::open(root).expect("opens");
            let closed = store.temp().join("work/work");
            fs::create_dir_all(&closed).expect("creates");
            fs::write(closed.join("file"), "").expect("writes");
            fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("sets");
            assert!(fs::read_dir(&closed).is_err(), "an ordinary user cannot look into it");
            if rest == ["die"] {
                std::process::abort();
            }
        }
        other => panic!("no role `{other}`"),
    }
}

fn say(word: &str) {
    writeln!(std::io::stdout(), "{word}").expect("stdout takes it");
}

fn content(i: u32) -> Vec<u8> {
    i.to_le_bytes().repeat(1000 + i as usize % 7)
}

fn process(role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["as-process", role]).arg(root).stdout(Stdio::piped());
    command
}

/// Starts a process and waits until it says something.
fn started(role: &str, root: &Path) -> Child {
    let mut child = process(role, root).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its output is piped")).read_line(&mut line).expect("it says");
    assert!(!line.is_empty(), "{role} ended early");
    child
}

fn kill(mut child: Child) {
    child.kill().expect("kills");
    assert_eq!(child.wait().expect("waits").signal(), Some(9));
}

fn run_all(role: &str, root: &Path, count: usize) {
    let children: Vec<_> = (0..count).map(|_| process(role, root).spawn().expect("starts")).collect();
    for mut child in children {
        assert!(child.wait().expect("waits").success(), "{role}");
    }
}

/// Whether everything under a final name is whole.
fn check(store: &Store) {
    for entry in fs::read_dir(store.root().join("blobs/sha256")).expect("lists") {
        let name = entry.expect("entry").file_name().into_string().expect("a name");
        store.verify_blob(&Digest::from_hex(&name).expect("a digest")).expect("whole");
    }
    for entry in fs::read_dir(store.snapshots()).expect("lists") {
        assert!(entry.expect("entry").path().join("fs/deep/file").is_file(), "a torn snapshot");
    }
}

/// Waits until nothing but this process's directory and its lock are in `tmp`.
fn swept(store: &Store) {
    let tmp = store.root().join("tmp");
    assert!(store.temp().is_dir());
    let start = Instant::now();
    while fs::read_dir(&tmp).expect("lists").count() != 2 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?} is not swept", fs::read_dir(&tmp));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn many_processes_write_the_same() {
    let root = directory();
    run_all("write", root.path(), 6);
    let store = Store::open(root.path()).expect("opens");
    check(&store);
    for i in 0..40_u32 {
        let digest: Digest = store.record(Bucket::Files, &Key::of([&i.to_le_bytes()[..]])).expect("a record");
        assert_eq!(store.read_blob(&digest).expect("reads"), content(i));
    }
    swept(&store);
}

fn one_process_at_a_time_holds_a_lock() {
    let root = directory();
    run_all("count", root.path(), 4);
    assert_eq!(fs::read_to_string(root.path().join("cache/counter")).expect("reads"), "200");
    assert_eq!(fs::read_dir(root.path().join("locks")).expect("lists").count(), 0);
}

fn killed_at_any_moment() {
    let root = directory();
    for round in 0..25_u64 {
        let child = started("write-forever", root.path());
        std::thread::sleep(Duration::from_micros(round * 731 % 9000));
        kill(child);
    }
    let store = Store::open(root.path()).expect("opens");
    check(&store);
    swept(&store);
    // What a record names was there before the record.
    let mut records = 0;
    for i in 0..u32::MAX {
        let Some((digest, name)) = store.record::<(Digest, String)>(Bucket::Vertices, &Key::of([&i.to_le_bytes()[..]]))
        else {
            break;
        };
        records += 1;
        assert_eq!(store.read_blob(&digest).expect("reads"), content(i));
        assert!(store.snapshots().join(name).is_dir());
    }
    assert!(records > 0, "the processes had time for nothing");
}

fn nobody_prunes_what_another_uses() {
    let root = directory();
    let all = PrunePolicy { all: true, ..PrunePolicy::default() };
    let digest = Store::open(root.path()).expect("opens").put_blob(b"x").expect("puts").digest;
    let holder = started("hold", root.path());
    assert!(matches!(Store::prune(root.path(), &all), Err(StoreError::Busy { .. })));
    kill(holder);
    assert_eq!(Store::prune(root.path(), &all).expect("prunes").blobs.count, 1);
    assert_eq!(Store::open(root.path()).expect("opens").blob_size(&digest), None);
}

fn pruning_killed_at_any_moment() {
    for round in 0..12_u64 {
        let root = directory();
        let store = Store::open(root.path()).expect("opens");
        for i in 0..60_u32 {
            let name = format!("snapshot{i}");
            let snapshot = store.snapshots().join(&name);
            fs::create_dir_all(snapshot.join("fs/deep/er")).expect("creates");
            fs::write(snapshot.join("fs/deep/file"), "").expect("writes");
            let digest = store.put_blob(&content(i)).expect("puts").digest;
            let key = Key::of([&i.to_le_bytes()[..]]);
            store.put_record_unsynced(Bucket::Vertices, &key, &(digest, name)).expect("puts");
        }
        drop(store);
        let child = started("prune-all", root.path());
        std::thread::sleep(Duration::from_micros(round * 450));
        let mut child = child;
        child.kill().expect("kills");
        child.wait().expect("waits");

        let store = Store::open(root.path()).expect("opens");
        check(&store);
        for i in 0..60_u32 {
            let key = Key::of([&i.to_le_bytes()[..]]);
            if let Some((digest, name)) = store.record::<(Digest, String)>(Bucket::Vertices, &key) {
                assert!(
                    store.blob_size(&digest).is_some() && store.snapshots().join(name).is_dir(),
                    "a record dangles"
                );
            }
        }
        swept(&store);
    }
}

fn unreadable_directories_are_removed() {
    // Root may look into everything, so as root the processes become somebody else.
    let outer = directory();
    let root = outer.path().join("store");
    fs::create_dir(&root).expect("creates");
    let is_root = rustix::process::geteuid().is_root();
    let mut program = std::env::current_exe().expect("this program has a path");
    if is_root {
        const NOBODY: u32 = 65534;
        std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).expect("chowns");
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).expect("sets");
        // The build directory may be closed to others.
        let copy = outer.path().join("program");
        fs::copy(&program, &copy).expect("copies");
        program = copy;
    }
    let run = |last: &str| {
        let mut command = Command::new(&program);
        command.args(["as-process", "leave-unreadable"]).arg(&root).arg(last).stderr(Stdio::null());
        if is_root {
            command.uid(65534).gid(65534);
        }
        command.status().expect("runs")
    };
    let tmp = || fs::read_dir(root.join("tmp")).expect("lists").count();
    assert!(run("end").success());
    assert_eq!(tmp(), 0, "a process removes its own directory");
    assert_eq!(run("die").signal(), Some(6));
    assert_eq!(tmp(), 2, "a process that dies leaves its directory");
    // Sweeping goes on beside the process and may be cut off by its end; some process gets it done.
    let start = Instant::now();
    while tmp() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "not swept");
        assert!(run("end").success());
    }
}

fn a_full_disk_leaves_the_store_whole() {
    let place = directory();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0]).args(&arguments[1..]).arg(place.path()).status().expect("runs");
        assert!(status.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=300", "clawbuild-test"]);
    let result = std::panic::catch_unwind(|| fill(place.path()));
    mount(&["umount", "-l"]);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn fill(root: &Path) {
    let store = Store::open(root).expect("opens");
    let first = store.put_blob(b"first").expect("puts").digest;
    store.put_record(Bucket::Files, &Key::of([&b"k"[..]]), &first).expect("puts");

    let error = store.put_blob(&vec![1; 4 << 20]).expect_err("four megabytes do not fit in two");
    assert_eq!(error.diagnostic().code, diag::codes::store::FULL);
    assert_eq!(fs::read_dir(store.temp()).expect("lists").count(), 0, "nothing half-written is kept");
    store.put_blob(&vec![2; 1 << 20]).expect("half of it still fits");

    // Now the inodes.
    let mut kept = Vec::new();
    let error =
        (0..1000_u32).find_map(|i| match store.put_record(Bucket::Files, &Key::of([&i.to_le_bytes()[..]]), &i) {
            Ok(()) => {
                kept.push(i);
                None
            }
            Err(error) => Some(error),
        });
    assert_eq!(error.expect("300 inodes end").diagnostic().code, diag::codes::store::FULL);

    check(&store);
    assert_eq!(store.read_blob(&first).expect("reads"), b"first");
    assert_eq!(store.record(Bucket::Files, &Key::of([&b"k"[..]])), Some(first));
    for i in kept {
        assert_eq!(store.record(Bucket::Files, &Key::of([&i.to_le_bytes()[..]])), Some(i));
    }
    drop(store);
    let pruned = Store::prune(root, &PrunePolicy { all: true, ..PrunePolicy::default() });
    // Pruning a full disk works, or the full disk could never be mended.
    assert_eq!(pruned.expect("prunes").kept.count, 0);
    Store::open(root).expect("opens").put_blob(&vec![3; 1 << 20]).expect("there is room again");
}
