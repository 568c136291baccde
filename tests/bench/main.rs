//! Measures clawbuild against its peers, all in one run on one machine: absolute times travel badly, ratios do.
//!
//! `tests/run --bench` sets up and runs this; words after `--` choose cases. Needs root, Docker, buildah, mmdebstrap
//! and skopeo.

#![expect(clippy::print_stdout, reason = "the table is the program's result")]

mod buildkit;
mod debian;
mod export;
mod languages;
mod measure;
mod rebuild;
mod sandbox;

use std::path::Path;
use std::process::Command;

use support::{Capability, Cli, require};

/// A case: its name, and what measures it.
type Case = (&'static str, fn(&Bench));

const CASES: [Case; 7] = [
    ("rebuild", rebuild::rebuild),
    ("buildkit", buildkit::buildkit),
    ("openclaw", rebuild::openclaw),
    ("languages", languages::languages),
    ("debian", debian::minbase),
    ("export", export::export),
    ("sandbox", sandbox::sandbox),
];

/// What every case needs.
struct Bench {
    cli: Cli,
}

impl Bench {
    /// A `clawbuild` command in the bench's own surroundings.
    fn clawbuild<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = self.cli.command(Path::new(env!("CARGO_BIN_EXE_clawbuild")));
        command.args(arguments);
        command
    }
}

fn main() {
    // Steps are started through this very program.
    engine::embedded::sandbox::helper_main_if_requested();
    use Capability::{Archive, BuildKit, Buildah, Docker, Mmdebstrap, Root, Runc, Skopeo};
    // Cargo adds `--bench`.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = chosen.iter().find(|name| CASES.iter().all(|(case, _)| case != name)) {
        let names: Vec<&str> = CASES.iter().map(|(case, _)| *case).collect();
        panic!("there is no case `{unknown}`, only {}", names.join(", "));
    }
    require(&[Root, Docker, BuildKit, Buildah, Mmdebstrap, Runc, Skopeo, Archive]).expect("the peers are here");
    let bench = Bench { cli: Cli::new(env!("CARGO_BIN_EXE_clawbuild")).with_shared_store() };
    for (_, run) in CASES.iter().filter(|(case, _)| chosen.is_empty() || chosen.iter().any(|name| name == case)) {
        run(&bench);
    }
}
