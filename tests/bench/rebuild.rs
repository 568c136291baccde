//! Building again what was built before: with nothing changed, and with one file of two hundred changed.

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Docker, ThreeStages, run, tool};

use crate::Bench;
use crate::measure::{Comparison, peak_memory, repeat, succeed};

/// The name the peers know the base by.
const BASE: &str = "clawbuild-bench/base:1";

pub(crate) fn rebuild(bench: &Bench) {
    let directory = bench.cli.directory();
    let project = ThreeStages::write(directory);
    let storage = Storage::new(bench);
    give_base_to_peers(bench, &storage);
    project.write_dockerfile(&format!("localhost/{BASE}"));
    let context = directory.display().to_string();

    let docker = Docker::new();
    let ours = || bench.clawbuild(["--quiet", "./recipe.toml"]);
    let dockers = || {
        let mut command = Command::new(tool("docker"));
        command.env("DOCKER_BUILDKIT", "1").args(["--host", docker.host()]);
        // The daemon has no bridge; the step needs no network.
        command.args(["build", "--quiet", "--network", "none", "--tag", "clawbuild-bench/out", &context]);
        command
    };
    let buildahs = || {
        let mut command = Command::new(tool("buildah"));
        command.args(storage.arguments());
        command.args(["bud", "--layers", "--isolation", "chroot", "--quiet", "--tag", "clawbuild-bench/out", &context]);
        command
    };
    // Everything there once.
    for mut command in [ours(), dockers(), buildahs()] {
        succeed(&mut command);
    }

    let mut unchanged = Comparison::new("three stages, 200 files: nothing changed");
    unchanged.row("clawbuild", repeat(31, |_| {}, |_| succeed(&mut ours())));
    unchanged.row("docker build (BuildKit)", repeat(15, |_| {}, |_| succeed(&mut dockers())));
    unchanged.row("buildah bud --layers", repeat(7, |_| {}, |_| succeed(&mut buildahs())));
    unchanged.at_most(Duration::from_millis(10));
    print!("{unchanged}");

    let mut changed = Comparison::new("three stages, 200 files: one file changed");
    let change = |who: &'static str, project: &ThreeStages| {
        let project = project.clone();
        move |time: usize| project.change(17, &format!("{who}-{time}-{}", std::process::id()))
    };
    changed.row("clawbuild", repeat(15, change("clawbuild", &project), |_| succeed(&mut ours())));
    changed.row("docker build (BuildKit)", repeat(9, change("docker", &project), |_| succeed(&mut dockers())));
    changed.row("buildah bud --layers", repeat(7, change("buildah", &project), |_| succeed(&mut buildahs())));
    changed.at_most(Duration::from_millis(150));
    print!("{changed}");
}

/// The image all three stand on is clawbuild's own base, the same bytes for everybody.
fn give_base_to_peers(bench: &Bench, storage: &Storage) {
    let layout = bench.cli.scratch().join("base");
    let output = format!("type=oci,dest={}", layout.display());
    succeed(&mut bench.clawbuild(["--quiet", "base/debian", "--output", &output]));
    let layout = format!("oci:{}", layout.display());
    let docker = Docker::new();
    let image = format!("docker-daemon:localhost/{BASE}");
    run("skopeo", ["copy", "--quiet", "--dest-daemon-host", docker.host(), &layout, &image]);
    run("skopeo", ["copy", "--quiet", &layout, &storage.image(&format!("localhost/{BASE}"))]);
}

/// Where buildah keeps what it makes: not among the machine's own images.
struct Storage {
    graph: String,
    run: String,
}

impl Storage {
    fn new(bench: &Bench) -> Self {
        let path = |name: &str| bench.cli.scratch().join(name).display().to_string();
        Self { graph: path("buildah-graph"), run: path("buildah-run") }
    }

    fn arguments(&self) -> [&str; 6] {
        ["--root", &self.graph, "--runroot", &self.run, "--storage-driver", "overlay"]
    }

    fn image(&self, name: &str) -> String {
        format!("containers-storage:[overlay@{}+{}]{name}", self.graph, self.run)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // It keeps its overlay directory mounted on itself.
        let _ = Command::new("umount").arg(format!("{}/overlay", self.graph)).output();
    }
}

/// A build from nothing and how much memory it takes, then the no-op rebuild the issue names.
pub(crate) fn openclaw(bench: &Bench) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = Bench { cli: bench.cli.clone().with_store(&bench.cli.scratch().join("openclaw-store")) };
    let output = format!("type=oci,dest={}", bench.cli.scratch().join("openclaw").display());
    let ours = || {
        let mut command = bench.clawbuild(["--quiet", "openclaw", "--output", &output]);
        command.current_dir(root);
        command
    };
    let begin = Instant::now();
    let memory = peak_memory(&mut ours());
    println!(
        "clawbuild openclaw, from nothing: {:.1} s with its downloads, {} MB of memory at most",
        begin.elapsed().as_secs_f64(),
        memory / 1_000_000
    );
    let mut unchanged = Comparison::new("clawbuild openclaw: nothing changed");
    unchanged.row("clawbuild", repeat(31, |_| {}, |_| succeed(&mut ours())));
    unchanged.at_most(Duration::from_millis(10));
    print!("{unchanged}");
}
