//! Assembling a Debian root filesystem with the packages of mmdebstrap's minbase variant, everything downloaded before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tool;

use crate::Bench;
use crate::measure::{Comparison, peak_memory, repeat, succeed};

const SUITE: &str = "trixie";
const ARCHIVE: &str = "http://deb.debian.org/debian";

pub(crate) fn minbase(bench: &Bench) {
    let peer = Mmdebstrap::prepare(&bench.cli.scratch().join("mmdebstrap"));
    let project = bench.cli.scratch().join("minbase");
    write_base(&project, &peer.packages());
    let store = bench.cli.scratch().join("minbase-store");
    let bench = Bench { cli: bench.cli.clone().with_store(&store).in_directory(&project) };
    let ours = || bench.clawbuild(["--quiet", "base/minbase"]);
    // Fills the store with downloads, and writes the lock.
    succeed(&mut ours());

    let mut comparison = Comparison::new(format!("Debian {SUITE} minbase, downloads cached"));
    comparison.row("clawbuild", repeat(5, |_| forget_results(&store), |_| succeed(&mut ours())));
    comparison.row("mmdebstrap --variant=minbase", repeat(3, |_| {}, |_| succeed(&mut peer.command())));
    comparison.times_faster(5.0);
    print!("{comparison}");
    forget_results(&store);
    println!("  clawbuild's peak memory: {} MB", peak_memory(&mut ours()) / 1_000_000);
}

/// A workspace whose base `minbase` has these packages and nothing left out.
fn write_base(project: &Path, packages: &[String]) {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("base/keys");
    let own = project.join("base/keys");
    fs::create_dir_all(&own).expect("the scratch directory is writable");
    for entry in fs::read_dir(keys).expect("the keys are part of the sources").flatten() {
        fs::copy(entry.path(), own.join(entry.file_name())).expect("the scratch directory is writable");
    }
    let text = format!(
        "schema = 1\n\n[base]\nname = \"minbase\"\nsummary = \"What mmdebstrap calls minbase\"\n\n[debian]\n\
         archive = \"{ARCHIVE}\"\nsuites = [\"{SUITE}\"]\nkeys = [\"debian-archive-{SUITE}-automatic.asc\", \
         \"debian-archive-{SUITE}-stable.asc\"]\nslim = false\npackages = {packages:?}\n"
    );
    fs::create_dir_all(project.join("runtimes")).expect("the scratch directory is writable");
    fs::write(project.join("base/minbase.toml"), text).expect("the scratch directory is writable");
}

/// Leaves downloads in the store and nothing made of them: facts, file trees and layers are derived again.
fn forget_results(store: &Path) {
    for derived in ["records", "snapshots"] {
        let directory = store.join(derived);
        for entry in fs::read_dir(&directory).expect("a store has this directory").flatten() {
            fs::remove_dir_all(entry.path()).expect("the store is this bench's own");
        }
    }
}

struct Mmdebstrap {
    directory: PathBuf,
}

impl Mmdebstrap {
    /// Downloads what it needs, by running it once over the network.
    fn prepare(directory: &Path) -> Self {
        let peer = Self { directory: directory.to_owned() };
        let indices = format!("mirror/dists/{SUITE}/main/binary-amd64");
        fs::create_dir_all(directory.join(&indices)).expect("the scratch directory is writable");
        fs::create_dir_all(directory.join("cache")).expect("the scratch directory is writable");
        for file in [format!("dists/{SUITE}/InRelease"), format!("dists/{SUITE}/main/binary-amd64/Packages.xz")] {
            let mut curl = Command::new(tool("curl"));
            let target = directory.join("mirror").join(&file);
            succeed(curl.args(["-sSf", "-o"]).arg(target).arg(format!("{ARCHIVE}/{file}")));
        }
        let keep = "--customize-hook=cp \"$1\"/var/cache/apt/archives/*.deb cache/";
        let list = "--customize-hook=chroot \"$1\" dpkg-query -W -f '${Package}\\n' >packages";
        let arguments = ["--skip=cleanup/apt/cache", keep, list, SUITE, "root.tar"];
        let mut first = peer.mmdebstrap();
        succeed(first.args(arguments).arg(format!("deb [trusted=yes] {ARCHIVE} {SUITE} main")));
        peer
    }

    fn packages(&self) -> Vec<String> {
        let list = fs::read_to_string(self.directory.join("packages")).expect("the hook wrote it");
        list.lines().map(str::to_owned).collect()
    }

    /// The way its manual gives to keep downloads: indices and packages lie on the same disk, signatures go unchecked.
    fn command(&self) -> Command {
        let mirror = self.directory.join("mirror");
        let mut command = self.mmdebstrap();
        command.arg("--setup-hook=cp -l cache/*.deb \"$1/var/cache/apt/archives/\"").args([SUITE, "root.tar"]);
        command.arg(format!("deb [trusted=yes] copy://{} {SUITE} main", mirror.display()));
        command
    }

    fn mmdebstrap(&self) -> Command {
        let mut command = Command::new(tool("mmdebstrap"));
        command.current_dir(&self.directory).env("TMPDIR", &self.directory);
        command.args(["--quiet", "--variant=minbase", "--skip=essential/unlink"]);
        command.arg("--setup-hook=mkdir -p \"$1/var/cache/apt/archives\"");
        command
    }
}
