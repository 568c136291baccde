//! One line of a program changed: the image again, against the bare compiler of the same toolchain with all it keeps
//! between builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Bench;
use crate::measure::{Comparison, repeat, succeed};

/// A language's program in `tests/apps`, and how its compiler is called by hand.
struct App {
    name: &'static str,
    /// The file whose line that says `listening` is changed, and what it becomes.
    file: &'static str,
    line: &'static str,
    /// What is done once, in the program's directory, to have its dependencies below `$ROOT`.
    fetch: &'static str,
    /// What compiles, in the toolchain's tree, the program being in `/app`.
    compile: &'static str,
}

const APPS: [App; 2] = [
    App {
        name: "rust",
        file: "src/main.rs",
        line: "    println!(\"listening on {port} TEXT\");",
        fetch: "mkdir -p $ROOT/.cargo && cargo vendor --locked --quiet $ROOT/crates >/dev/null && \
                printf '[source.crates-io]\\nreplace-with = \"c\"\\n[source.c]\\ndirectory = \"/crates\"\\n' \
                >$ROOT/.cargo/config.toml",
        compile: "cargo build --release --offline --locked --quiet",
    },
    App {
        name: "go",
        file: "main.go",
        line: "\tfmt.Println(\"listening on\", port, \"TEXT\")",
        fetch: "GOMODCACHE=$ROOT/modules GOFLAGS=-modcacherw GOTOOLCHAIN=auto go mod download",
        compile: "GOMODCACHE=/modules GOCACHE=/cache GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0 \
                  /usr/local/go/bin/go build -trimpath -buildvcs=false -ldflags '-s -w' -o /out/app .",
    },
];

pub(crate) fn languages(bench: &Bench) {
    for app in &APPS {
        app.measure(bench);
    }
}

impl App {
    fn measure(&self, bench: &Bench) {
        let directory = bench.cli.scratch().join(format!("app-{}", self.name));
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(self.name);
        copy(&program, &directory);
        let root = bench.cli.scratch().join(format!("toolchain-{}", self.name));
        let output = format!("type=local,dest={}", root.display());
        succeed(&mut bench.clawbuild(["--quiet", &format!("base/{}", self.name), "--output", &output]));
        copy(&program, &root.join("app"));
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-euc", script]).env("ROOT", &root).current_dir(&directory);
            command
        };
        succeed(&mut shell(self.fetch));
        let bare = format!(
            "exec unshare --mount sh -euc 'mkdir -p $ROOT/dev $ROOT/proc; mount --rbind /dev $ROOT/dev; \
             mount -t proc proc $ROOT/proc; exec chroot $ROOT /usr/bin/env HOME=/tmp sh -euc \"cd /app; {}\"'",
            self.compile
        );
        let ours = || {
            let mut command = bench.clawbuild(["--quiet", "./recipe.toml"]);
            command.current_dir(&directory);
            command
        };
        succeed(&mut ours());
        succeed(&mut shell(&bare));
        let mut changed = Comparison::new(format!("a {} program: one line changed", self.name));
        let change = |root: PathBuf, who: &'static str| move |time: usize| self.change(&root, &format!("{who} {time}"));
        changed.row("clawbuild, image and all", repeat(7, change(directory.clone(), "ours"), |_| succeed(&mut ours())));
        changed.row("the bare compiler", repeat(7, change(root.join("app"), "bare"), |_| succeed(&mut shell(&bare))));
        changed.within(1.1, Duration::from_millis(200));
        print!("{changed}");
    }

    fn change(&self, root: &Path, text: &str) {
        let file = root.join(self.file);
        let old = fs::read_to_string(&file).expect("the program is there");
        let line = self.line.replace("TEXT", text);
        let line = |old: &str| if old.contains("listening") { line.clone() } else { old.to_owned() };
        let new: Vec<String> = old.lines().map(line).collect();
        fs::write(&file, new.join("\n")).expect("the program can be changed");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    succeed(Command::new("cp").arg("--recursive").arg(from.join(".")).arg(to));
}
