//! Layer bytes: from a file tree to a compressed blob, digests and all.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::layer::Snapshot;
use oci::layer::compress::Compression;
use oci::layer::diff;
use support::{Docker, run, tool};

use crate::Bench;
use crate::measure::{Comparison, repeat, succeed};

/// Bytes of files in the tree.
const SIZE: u64 = 500_000_000;

pub(crate) fn export(bench: &Bench) {
    let scratch = bench.cli.scratch();
    let snapshot = Snapshot::at(scratch.join("tree"));
    fill(&snapshot.fs());
    let docker = Docker::new();
    let (tar, image) = (scratch.join("tree.tar"), "clawbuild-bench/tree:1");
    run("tar", [Path::new("-cf"), &tar, Path::new("-C"), &snapshot.fs(), Path::new(".")]);
    docker.run(["import", tar.to_str().expect("UTF-8"), image]);

    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let blob = |threads: NonZeroUsize, compression: Compression| {
        let file = fs::File::create(scratch.join("blob")).expect("the scratch directory is writable");
        let (blob, _) =
            diff::export(&[], &snapshot, None, compression, threads, file).expect("the tree can be exported");
        blob.descriptor.digest
    };
    assert_eq!(blob(NonZeroUsize::MIN, Compression::Gzip), blob(threads, Compression::Gzip), "threads change no byte");
    let skopeos = || {
        let target = scratch.join("skopeo");
        // It skips what is there already; the first time nothing is.
        let _ = fs::remove_dir_all(&target);
        let mut command = Command::new(tool("skopeo"));
        command.args(["copy", "--quiet", "--src-daemon-host", docker.host()]);
        command.arg(format!("docker-daemon:{image}")).arg(format!("oci:{}", target.display()));
        command
    };
    let dockers = || {
        let save = format!("{} --host {} save {image}", tool("docker").display(), docker.host());
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c"]).arg(format!("{save} | gzip -6 >{}", scratch.join("saved").display()));
        command
    };
    let mut comparison = Comparison::new(format!("a layer of {} MB, gzip", SIZE / 1_000_000));
    comparison.row("clawbuild", repeat(5, |_| {}, |_| _ = blob(threads, Compression::Gzip)));
    comparison.row("skopeo copy", repeat(3, |_| {}, |_| succeed(&mut skopeos())));
    comparison.row("docker save | gzip", repeat(2, |_| {}, |_| succeed(&mut dockers())));
    comparison.times_faster(2.0);
    print!("{comparison}");
    let mut more = Comparison::new("the same, in other ways");
    more.row("gzip, one thread", repeat(3, |_| {}, |_| _ = blob(NonZeroUsize::MIN, Compression::Gzip)));
    more.row("zstd", repeat(3, |_| {}, |_| _ = blob(threads, Compression::Zstd)));
    print!("{more}");
    docker.run(["rmi", image]);
}

/// Copies programs and libraries of this machine until there are enough: real files compress as real files do.
fn fill(tree: &Path) {
    let mut left = SIZE;
    let mut open = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/bin"), PathBuf::from("/usr/share")];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let target = tree.join(path.strip_prefix("/").expect("the paths are absolute"));
            if metadata.is_dir() {
                open.push(path);
            } else if metadata.is_file() && metadata.len() <= left {
                fs::create_dir_all(target.parent().expect("it lies in the tree")).expect("the tree is writable");
                if fs::copy(&path, &target).is_ok() {
                    left -= metadata.len();
                }
            }
        }
        if left < SIZE / 1000 {
            return;
        }
    }
    assert!(left < SIZE / 10, "this machine has too few files for the measurement");
}
