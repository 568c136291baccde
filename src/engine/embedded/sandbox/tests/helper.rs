//! Stands in for clawbuild in the tests of the sandbox: enters the namespaces, mounts the layers it is told and runs one
//! step. It is its own sandbox helper, as clawbuild is. Bound into a step, it is also a program that tries what a step may
//! not do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use diag::Reported as _;
use diag::progress::Stream;
use engine::embedded::fileop::{Source, TreeEditor};
use engine::embedded::mount::{Method, Mounter, Root};
use engine::embedded::sandbox::{Cancel, Sandbox, SandboxError, Spec, helper_main_if_requested};
use engine::userns::{Ids, enter};
use llb::{CopyAction, FileActionKind, MkfileAction, Timestamp};
use oci::layer::Snapshot;
use oci::layer::ownership::Ownership;

/// What to do, as JSON on standard input.
#[derive(serde::Deserialize)]
struct Job {
    directory: PathBuf,
    layers: Vec<PathBuf>,
    upper: PathBuf,
    method: Option<String>,
    single: bool,
    cancel_after: Option<u64>,
    repeat: Option<u32>,
    parallel: Option<usize>,
    result: PathBuf,
    spec: Spec,
}

fn main() -> ExitCode {
    helper_main_if_requested();
    match std::env::args().nth(1).as_deref() {
        Some("run") => job(),
        Some("copy") => copies(),
        Some("probe") => probed(),
        Some("crash") => crash(),
        Some("forbidden-calls") => forbidden_calls(),
        other => panic!("{other:?} is none of the things this can do"),
    }
}

fn job() -> ExitCode {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("a job");
    let mut job: Job = serde_json::from_str(&text).expect("a job");
    let identity = enter(if job.single { Ids::Single } else { Ids::Widest }).expect("namespaces");
    let mounter = match job.method.as_deref() {
        None => Mounter::new(&job.directory, identity),
        Some("options") => Mounter::with_method(&job.directory, identity, Method::OverlayByOptions),
        Some("copy") => Mounter::with_method(&job.directory, identity, Method::Copy),
        Some(other) => panic!("no method {other}"),
    };
    let mounter = mounter.expect("a mounter");
    let sandbox = Sandbox::new(&job.directory, identity).expect("a sandbox");
    let tree = mounter.writable(&job.layers, &job.upper).expect("a tree");
    job.spec.root = tree.path();
    let cancel = Cancel::new().expect("a cancel handle");
    if let Some(delay) = job.cancel_after {
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            cancel.cancel();
        });
    }
    let mut output = |stream: Stream, data: &[u8]| match stream {
        Stream::Stdout => std::io::stdout().write_all(data).expect("standard output"),
        Stream::Stderr => std::io::stderr().write_all(data).expect("standard error"),
    };
    if let Some(threads) = job.parallel {
        // A tree for each, as the solver gives them.
        let alone = |number: usize| {
            let upper = job.upper.with_file_name(format!("upper{number}"));
            fs::create_dir(&upper).expect("a directory");
            let tree = mounter.writable(&job.layers, &upper).expect("a tree");
            let spec = Spec { root: tree.path(), ..job.spec.clone() };
            let mut length = 0;
            let status = sandbox.run_blocking(spec, &mut |_, data| length += data.len(), &cancel).expect("runs");
            tree.finish().expect("the tree ends");
            (status.code, length)
        };
        let ended: Vec<(i32, usize)> = std::thread::scope(|scope| {
            let alone = &alone;
            let threads: Vec<_> = (1..threads).map(|number| scope.spawn(move || alone(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
        });
        assert!(ended.windows(2).all(|pair| pair[0] == pair[1]), "all alike: {ended:?}");
        assert_eq!(ended[0], (0, 100_000));
    }
    let mut times = Vec::new();
    for _ in 1..job.repeat.unwrap_or(1) {
        let start = Instant::now();
        sandbox.run_blocking(job.spec.clone(), &mut output, &cancel).expect("runs");
        times.push(start.elapsed().as_micros());
    }
    let result = sandbox.run_blocking(job.spec, &mut output, &cancel);
    tree.finish().expect("the tree ends");
    let result = match result {
        Ok(status) => serde_json::json!({ "code": status.code, "out_of_memory": status.out_of_memory, "times": times }),
        Err(SandboxError::Refused(refusal)) => serde_json::json!({ "refused": refusal, "text": refusal.to_string() }),
        Err(SandboxError::Cancelled) => serde_json::json!("cancelled"),
        Err(error) => serde_json::json!({ "error": format!("{error:?}") }),
    };
    fs::write(&job.result, serde_json::json!({ "identity": identity, "result": result }).to_string())
        .expect("a result");
    ExitCode::SUCCESS
}

/// Prints what the probe finds, and fails if it has changed anything.
fn probed() -> ExitCode {
    let state = || {
        let of = |path: &str| fs::read_to_string(path).unwrap_or_else(|_| format!("{:?}", fs::read_link(path)));
        // Not all of the status is this process's own: how many signals are queued is counted for all of a user's.
        let own = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "Threads:", "NSpid:"];
        ["/proc/self/ns/user", "/proc/self/ns/mnt", "/proc/self/status"].map(|path| {
            let is_own = |line: &&str| !path.ends_with("status") || own.iter().any(|field| line.starts_with(field));
            of(path).lines().filter(is_own).collect::<String>()
        })
    };
    let before = state();
    let found = match engine::userns::probe() {
        Ok(found) => format!("{found:?}"),
        Err(error) => format!("{}: {}", error.diagnostic().code, error),
    };
    assert_eq!(state(), before);
    std::io::stdout().write_all(found.as_bytes()).expect("standard output");
    ExitCode::SUCCESS
}

/// What to copy, as JSON on standard input.
#[derive(serde::Deserialize)]
struct Copies {
    directory: PathBuf,
    source: Vec<PathBuf>,
    target: Vec<PathBuf>,
    snapshot: PathBuf,
    single: bool,
    share: bool,
    mode: Option<u32>,
    copies: Vec<(String, String)>,
    overwrite: Option<String>,
}

/// Copies from one tree to another, and may overwrite a file of the copy.
fn copies() -> ExitCode {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("copies");
    let job: Copies = serde_json::from_str(&text).expect("copies");
    let identity = enter(if job.single { Ids::Single } else { Ids::Widest }).expect("namespaces");
    let ownership = if identity.owns_all() { Ownership::Real } else { Ownership::Recorded };
    let mounter = Mounter::new(&job.directory, identity).expect("a mounter");
    let snapshot = Snapshot::at(&job.snapshot);
    let source = mounter.read_only(&job.source).expect("a tree");
    let target = mounter.writable(&job.target, &snapshot.fs()).expect("a tree");
    let epoch = Timestamp::from_seconds(1_700_000_000);
    let mut editor = TreeEditor::open(Root::new(target.root()), &snapshot, ownership, epoch).expect("an editor");
    if job.share {
        editor = editor.sharing(&target);
    }
    for (src, dest) in job.copies {
        let mut action = CopyAction::new(src, dest);
        (action.dir_copy_contents, action.create_dest_path, action.mode) = (true, true, job.mode);
        let source = Source { root: Root::new(source.root()), layers: &job.source };
        editor.apply(&FileActionKind::Copy(action), Some(source), |_| None).expect("copies");
    }
    if let Some(path) = job.overwrite {
        let mut action = MkfileAction::new(path, b"overwritten".to_vec());
        action.mode = 0o600;
        editor.apply(&FileActionKind::Mkfile(action), None, |_| None).expect("overwrites");
    }
    editor.finish().expect("ends");
    // What the overlay shows is what lies there.
    let shown = list(&target.path());
    target.finish().expect("the tree ends");
    std::io::stdout().write_all(shown.join("\n").as_bytes()).expect("standard output");
    ExitCode::SUCCESS
}

fn list(directory: &Path) -> Vec<String> {
    let mut shown = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let meta = fs::symlink_metadata(&path).expect("is there");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if meta.is_dir() {
            shown.extend(list(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else if meta.is_file() {
            shown.push(format!("{name} {}", fs::read_to_string(&path).expect("reads").trim_end()));
        } else {
            shown.push(name);
        }
    }
    shown
}

/// Ends by a signal, which process 1 can only do by a fault.
fn crash() -> ExitCode {
    #[expect(unsafe_code, reason = "a fault on purpose")]
    // SAFETY: not safe at all, which is the point: the kernel ends the process here.
    unsafe {
        std::ptr::null_mut::<u8>().write_volatile(1);
    }
    ExitCode::SUCCESS
}

/// Prints the error number of calls a step may not make. None of them gets far even if allowed.
fn forbidden_calls() -> ExitCode {
    let calls: [(&str, i64, [i64; 3]); 9] = [
        ("bpf", libc::SYS_bpf, [0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, -3, 0]),
        ("mount", libc::SYS_mount, [0, 0, 0]),
        ("open_tree", libc::SYS_open_tree, [-1, 0, 0]),
        ("socket-alg", libc::SYS_socket, [libc::AF_ALG as i64, libc::SOCK_SEQPACKET as i64, 0]),
        ("personality", libc::SYS_personality, [0x0004_0000, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as i64, 0, 0]),
        ("getpid", libc::SYS_getpid, [0, 0, 0]),
    ];
    for (name, number, [a, b, c]) in calls {
        #[expect(unsafe_code, reason = "calls without a safe form")]
        // SAFETY: no pointer is passed but null.
        let result = unsafe { libc::syscall(number, a, b, c) };
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        writeln!(std::io::stdout(), "{name} {}", if result == -1 { error } else { 0 }).expect("standard output");
    }
    assert!(Path::new("/proc/self/status").exists());
    ExitCode::SUCCESS
}
