//! Projects for tests and benchmarks, written where they are wanted.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A recipe of one step: a program of a line that a shell of the build platform writes.
#[derive(Clone, Copy, Debug)]
pub struct OneStep;

impl OneStep {
    /// Writes it into `directory`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(directory: &Path) {
        fs::write(directory.join("recipe.toml"), ONE_STEP).unwrap();
    }
}

/// A recipe of three stages over two hundred files: one collects them, one digests what was collected, and the image
/// takes what both made.
#[derive(Clone, Debug)]
pub struct ThreeStages {
    directory: PathBuf,
}

/// How many files its source directory holds.
const FILES: usize = 200;

impl ThreeStages {
    /// Writes it into `directory`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(directory: &Path) -> Self {
        let project = Self { directory: directory.to_owned() };
        for file in 0..FILES {
            project.change(file, "first");
        }
        fs::write(directory.join("recipe.toml"), RECIPE).unwrap();
        project
    }

    /// Its recipe.
    pub fn recipe(&self) -> PathBuf {
        self.directory.join("recipe.toml")
    }

    /// Its source directory.
    pub fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// Writes one of the files anew, with `word` in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn change(&self, file: usize, word: &str) {
        let path = self.source().join(format!("part-{:02}/file-{file:03}.txt", file % 10));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = String::new();
        for line in 0..40 {
            writeln!(text, "{word} {file} {line} {}", (file * 7919 + line * 104_729) % 65_521).unwrap();
        }
        fs::write(path, text).unwrap();
    }

    /// The same for `docker build` and `buildah bud`, on an image that holds what the base holds.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_dockerfile(&self, base: &str) -> PathBuf {
        let path = self.directory.join("Dockerfile");
        fs::write(&path, DOCKERFILE.replace("BASE", base)).unwrap();
        path
    }
}

const RECIPE: &str = r#"schema = 1

[runtime]
name = "three-stages"
summary = "Three stages over two hundred files"
license = "MIT"

[source]
path = "source"
version = "1.0.0"

[build]
language = "custom"

[stages.collect]
from = "debian"
steps = [
  { copy = ".", to = "/work" },
  { run = ["/bin/sh", "-c", "cat /work/*/*.txt >/all.txt"] },
]

[stages.digest]
from = "debian"
steps = [
  { copy = "/all.txt", from = "collect", to = "/all.txt" },
  { run = ["/bin/sh", "-c", "sha256sum /all.txt >/sum.txt"] },
]

[image]
base = "debian"
user = { name = "claw", uid = 1000 }
command = ["/bin/sleep", "1000"]
copy = [
  { from = "collect", path = "/all.txt", to = "/srv/all.txt" },
  { from = "digest", path = "/sum.txt", to = "/srv/sum.txt" },
]

[health]
none = true
"#;

const DOCKERFILE: &str = r#"FROM BASE AS collect
COPY source /work
RUN cat /work/*/*.txt >/all.txt

FROM BASE AS digest
COPY --from=collect /all.txt /all.txt
RUN sha256sum /all.txt >/sum.txt

FROM BASE
COPY --from=collect /all.txt /srv/all.txt
COPY --from=digest /sum.txt /srv/sum.txt
USER 1000
CMD ["/bin/sleep", "1000"]
"#;

const ONE_STEP: &str = r#"schema = 1

[runtime]
name = "sample"
summary = "A program of a line"
license = "MIT"

[source]
path = "."

[build]
language = "custom"

[stages.build]
from = "debian"
steps = [{ run = ["sh", "-c", "mkdir /out && echo '#!/bin/sh' >/out/sample && chmod 755 /out/sample"] }]

[image]
base = "debian"
copy = [{ from = "build", path = "/out/sample", to = "/usr/local/bin/sample" }]
user = { name = "app", uid = 1000 }
command = ["/usr/local/bin/sample"]
"#;
