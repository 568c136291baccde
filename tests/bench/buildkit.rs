//! The same LLB by clawbuild and by BuildKit's own client on one buildkitd, and by the embedded engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{BuildKit, ThreeStages, tool};

use crate::Bench;
use crate::measure::{Comparison, repeat, succeed};

/// Files of the large context.
const FILES: usize = 10_000;

pub(crate) fn buildkit(bench: &Bench) {
    let directory = bench.cli.scratch().join("three");
    let project = ThreeStages::write(&directory);
    let bench = Bench { cli: bench.cli.clone().in_directory(&directory) };
    let daemon = BuildKit::new();
    let ours = || bench.clawbuild(["--quiet", "./recipe.toml", "--builder", daemon.address()]);
    let embedded = || bench.clawbuild(["--quiet", "./recipe.toml"]);
    succeed(&mut embedded());
    let peer = Peer::new(&bench, &directory, &directory.join("source"), &daemon);
    for mut command in [ours(), peer.command()] {
        succeed(&mut command);
    }

    let mut unchanged = Comparison::new("three stages on buildkitd: nothing changed");
    unchanged.row("clawbuild --builder, image in its store", repeat(15, |_| {}, |_| succeed(&mut ours())));
    unchanged.row("buildctl, image in an OCI layout", repeat(15, |_| {}, |_| succeed(&mut peer.command())));
    unchanged.row("clawbuild, embedded", repeat(15, |_| {}, |_| succeed(&mut embedded())));
    print!("{unchanged}");

    let mut changed = Comparison::new("three stages on buildkitd: one file changed");
    let change = |who: &'static str| {
        let project = project.clone();
        move |time: usize| project.change(11, &format!("{who}-{time}-{}", std::process::id()))
    };
    changed.row("clawbuild --builder, image in its store", repeat(7, change("ours"), |_| succeed(&mut ours())));
    changed.row("buildctl, image in an OCI layout", repeat(7, change("buildctl"), |_| succeed(&mut peer.command())));
    changed.row("clawbuild, embedded", repeat(7, change("embedded"), |_| succeed(&mut embedded())));
    print!("{changed}");
    cold(&bench, &daemon, &peer);
    context(&bench, &daemon);
}

/// Nobody knows any result, and no base is unpacked anywhere; all have the bases' layers in clawbuild's store.
fn cold(bench: &Bench, daemon: &BuildKit, peer: &Peer) {
    let prepared = bench.cli.scratch().join("prepared");
    let bare = Bench { cli: bench.cli.clone().with_store(&prepared) };
    // It assembles the bases, runs no step and unpacks nothing.
    succeed(&mut bare.clawbuild(["graph", "./recipe.toml"]));
    let store = bench.cli.scratch().join("cold");
    let forget = |_: usize| {
        for path in [&store, &peer.output] {
            succeed(Command::new("rm").args(["-rf", "--"]).arg(path));
        }
        succeed(Command::new("cp").arg("-a").arg(&prepared).arg(&store));
        daemon.buildctl(bench.cli.directory(), ["prune", "--all"]).success();
    };
    let cold = Bench { cli: bench.cli.clone().with_store(&store) };
    let ours = || cold.clawbuild(["--quiet", "./recipe.toml", "--builder", daemon.address()]);
    let embedded = || cold.clawbuild(["--quiet", "./recipe.toml"]);
    let mut comparison = Comparison::new("three stages on buildkitd: nothing known");
    comparison.row("clawbuild --builder, image in its store", repeat(3, forget, |_| succeed(&mut ours())));
    comparison.row("buildctl, image in an OCI layout", repeat(3, forget, |_| succeed(&mut peer.command())));
    comparison.row("clawbuild, embedded", repeat(3, forget, |_| succeed(&mut embedded())));
    print!("{comparison}");
}

/// Ten thousand files that do not change: what has to be done is a walk.
fn context(bench: &Bench, daemon: &BuildKit) {
    let directory = bench.cli.scratch().join("many");
    for number in 0..FILES {
        let directory = directory.join("files").join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir_all(&directory).expect("the scratch directory is writable");
        }
        fs::write(directory.join(format!("{number}.txt")), number.to_string()).expect("writable");
    }
    fs::write(directory.join("recipe.toml"), RECIPE).expect("writable");
    let bench = Bench { cli: bench.cli.clone().in_directory(&directory) };
    let ours = || bench.clawbuild(["--quiet", "./recipe.toml", "--builder", daemon.address()]);
    let embedded = || bench.clawbuild(["--quiet", "./recipe.toml"]);
    succeed(&mut embedded());
    let peer = Peer::new(&bench, &directory, &directory, daemon);
    let find = || {
        let mut command = Command::new("find");
        command.arg(directory.join("files")).args(["-size", "+1000k"]);
        command
    };
    for mut command in [ours(), peer.command()] {
        succeed(&mut command);
    }
    let mut comparison = Comparison::new(format!("a context of {FILES} files, nothing changed"));
    comparison.row("clawbuild --builder", repeat(9, |_| {}, |_| succeed(&mut ours())));
    comparison.row("buildctl", repeat(9, |_| {}, |_| succeed(&mut peer.command())));
    comparison.row("clawbuild, embedded", repeat(9, |_| {}, |_| succeed(&mut embedded())));
    comparison.row("find, which looks at each file", repeat(9, |_| {}, |_| succeed(&mut find())));
    print!("{comparison}");
}

const RECIPE: &str = r#"schema = 1

[runtime]
name = "many"
summary = "Many files"
license = "MIT"

[source]
path = "."

[build]
language = "custom"

[stages.build]
from = "debian"
steps = [{ copy = "files", to = "/files" }, { run = ["sh", "-c", "mkdir /out && ls /files >/out/list"] }]

[image]
base = "debian"
copy = [{ from = "build", path = "/out/list", to = "/list" }]
user = { name = "app", uid = 1000 }
command = ["/bin/true"]
"#;

/// buildctl with the definition that clawbuild prints, and the same directories.
struct Peer {
    definition: PathBuf,
    directory: PathBuf,
    source: PathBuf,
    store: PathBuf,
    output: PathBuf,
    address: String,
}

impl Peer {
    fn new(bench: &Bench, directory: &Path, source: &Path, daemon: &BuildKit) -> Self {
        let definition = directory.with_extension("llb");
        let output = bench.clawbuild(["graph", "./recipe.toml", "--format", "llb"]).output().expect("it runs");
        assert!(output.status.success(), "the graph is printed");
        fs::write(&definition, output.stdout).expect("the scratch directory is writable");
        let (output, store) = (directory.with_extension("out"), bench.cli.store().to_owned());
        let (directory, source) = (directory.to_owned(), source.to_owned());
        Self { definition, directory, source, store, output, address: daemon.address().to_owned() }
    }

    fn command(&self) -> Command {
        // It reads the definition from its standard input.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" <'{}'", self.definition.display())]).arg(tool("buildctl"));
        command.args(["--addr", &self.address, "build", "--progress", "quiet"]);
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("base/init");
        for (name, directory) in [("recipe", &self.directory), ("source", &self.source), ("init", &init)] {
            command.arg("--local").arg(format!("{name}={}", directory.display()));
        }
        command.arg("--oci-layout").arg(format!("clawbuild={}", self.store.display()));
        command.arg("--output").arg(format!("type=oci,tar=false,dest={}", self.output.display()));
        command
    }
}
