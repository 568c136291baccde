//! Rust programs, compiled by cargo: every crate is fetched by the checksum `Cargo.lock` has, compiling has no network.

use std::collections::BTreeMap;

use diag::{Source as Text, Span, codes};
use oci::{Architecture, Digest};
use recipe::{RecipeError, Rust};
use serde::Deserialize;

use super::{Command, Source, Workshop, joined, mounted, variables, words};
use crate::archives::Archive;
use crate::stage::{Stages, path};
use crate::{ArchiveFormat, ArchiveSet, Copy, CopyFrom, Download, FileAction, PlanError, Stage, StageId, bases};

/// The file that pins a program's crates.
pub(crate) const LOCK_FILE: &str = "Cargo.lock";
/// The base whose files are Rust's libraries for a platform other than the one that compiles.
pub(crate) const RUST_TARGET_BASE: &str = "rust-target";
/// What a source directory holds that is no source.
pub(super) const EXCLUDE: &[&str] = &["/target", ".git"];

/// Where crates are mounted.
const CRATES: &str = "/crates";
/// crates.io, as `Cargo.lock` names it.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Where crates are downloaded. Spec: the crates.io index's `config.json`.
const DOWNLOADS: &str = "https://static.crates.io/crates";

/// The source goes into the directory that is kept: files whose content is the same keep their time there, those that
/// changed get a new one, which is what cargo goes by. The paths never change, so neither do the programs' bytes.
const COMPILE: &str = r#"rsync --recursive --links --perms --checksum --delete /source/ /build/source/
cd /build/source
cargo build "$@"
mkdir -p /out/bin
cd "/build/target/$TRIPLE/$DIRECTORY"
if [ -z "$BINS" ]; then BINS=$(find . -maxdepth 1 -type f -perm -u+x ! -name '*.so' ! -name '.*'); fi
for bin in $BINS; do install -m 0755 "$bin" /out/bin/; done"#;

/// What a `Cargo.lock` pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoLock {
    /// Crates of crates.io, in the file's order, which is by name and version.
    crates: Vec<Crate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Crate {
    name: String,
    version: String,
    checksum: Digest,
}

/// Spec: the Cargo book, "Cargo.toml vs Cargo.lock"; versions 3 and 4 have the checksum with the package.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    package: Vec<toml::Spanned<Package>>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl CargoLock {
    /// Reads the file.
    ///
    /// # Errors
    /// Text that is not a lock file, and crates that come from elsewhere than crates.io.
    pub fn parse(text: &Text) -> Result<Self, PlanError> {
        let bad = |span: Span, message: String| RecipeError::at(codes::recipe::LOCK_FILE, text, span, message);
        let document: Document = toml::from_str(text.text()).map_err(|error| {
            bad(error.span().unwrap_or_default().into(), format!("this is not a Cargo.lock: {}", error.message()))
        })?;
        let mut crates = Vec::new();
        for package in &document.package {
            let span = package.span().into();
            let Package { name, version, source, checksum } = package.get_ref();
            let (Some(source), checksum) = (source, checksum) else { continue };
            if source != CRATES_IO {
                let message = format!("crate `{name}` comes from `{source}`");
                return Err(bad(span, message)
                    .help("only crates of crates.io are fetched: publish it there, or put it into the source as a path")
                    .into());
            }
            let checksum = checksum.as_ref().and_then(|checksum| format!("sha256:{checksum}").parse().ok());
            let Some(checksum) = checksum else {
                return Err(bad(span, format!("crate `{name}` has no checksum"))
                    .help("run `cargo generate-lockfile` with a newer cargo")
                    .into());
            };
            let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
            if !plain(name) || !plain(version) || version.starts_with('.') {
                return Err(bad(span, "this is not a crate's name and version".to_owned()).into());
            }
            crates.push(Crate { name: name.clone(), version: version.clone(), checksum });
        }
        Ok(Self { crates })
    }

    /// The crates as cargo's directory source. Spec: the Cargo book, "Source Replacement", §Directory Sources.
    pub(crate) fn archives(&self, name: &str) -> ArchiveSet {
        let archive = |item: &Crate| {
            let directory = format!("{}-{}", item.name, item.version);
            let checksum = serde_json::json!({ "files": {}, "package": item.checksum.hex() });
            Archive {
                download: Download {
                    url: format!("{DOWNLOADS}/{}/{directory}.crate", item.name),
                    checksum: item.checksum,
                    filename: format!("{directory}.crate"),
                },
                size: None,
                format: ArchiveFormat::TarGz,
                strip: format!("{directory}/"),
                extra: BTreeMap::from([(".cargo-checksum.json".to_owned(), checksum.to_string())]),
                into: directory,
            }
        };
        ArchiveSet { name: format!("crates of {name}"), archives: self.crates.iter().map(archive).collect() }
    }
}

/// Rust's name of a platform with the GNU C library.
pub(crate) const fn triple(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "x86_64-unknown-linux-gnu",
        Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        Architecture::Riscv64 => "riscv64gc-unknown-linux-gnu",
    }
}

/// The stage that compiles; the programs are in `/out/bin`.
pub(super) fn compile(
    shop: &Workshop<'_>,
    stages: &mut Stages,
    rust: &Rust,
    source: &Source,
) -> Result<StageId, PlanError> {
    let recipe = shop.locked.recipe;
    let crates = shop.locked.crates();
    let crates = crates.stage(stages, shop.ground, shop.build, shop.origin(recipe.origin.span));
    let triple = triple(shop.target.architecture);
    let mut steps: Vec<_> = libraries(shop, stages, triple).into_iter().chain(shop.packages()).collect();
    let config = format!(
        "[source.crates-io]\nreplace-with = \"crates\"\n\n[source.crates]\ndirectory = \"{CRATES}\"\n\n[net]\noffline = true\n"
    );
    let directory = path("/.cargo");
    let settings = vec![
        FileAction::Directory { path: directory.clone(), mode: 0o755, owner: (0, 0) },
        FileAction::Write {
            path: directory.join("config.toml"),
            data: config.into_bytes(),
            mode: 0o644,
            owner: (0, 0),
        },
    ];
    steps.push(shop.files("cargo's settings", settings));
    // `dev` is the only profile whose directory has another name.
    let directory = if rust.profile == "dev" { "debug" } else { &rust.profile };
    let mut env = variables([
        ("CARGO_HOME", "/tmp/cargo"),
        ("CARGO_TERM_COLOR", "never"),
        ("TRIPLE", triple),
        ("DIRECTORY", directory),
        ("BINS", &joined(&rust.bins, " ")),
        ("PKG_CONFIG_ALLOW_CROSS", "1"),
    ]);
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let gnu = shop.target.architecture.gnu();
    env.insert(format!("CARGO_TARGET_{}_LINKER", upper(triple)), format!("{gnu}-linux-gnu-gcc"));
    env.insert(format!("CARGO_PROFILE_{}_STRIP", upper(&rust.profile)), "symbols".to_owned());
    env.insert("PKG_CONFIG_LIBDIR".to_owned(), format!("/usr/lib/{gnu}-linux-gnu/pkgconfig:/usr/share/pkgconfig"));
    if rust.is_static {
        env.insert(format!("CARGO_TARGET_{}_RUSTFLAGS", upper(triple)), "-Ctarget-feature=+crt-static".to_owned());
    }
    let mut args = words(&["/bin/sh", "-euc", COMPILE, "cargo"]);
    args.extend(words(&["--locked", "--offline", "--target-dir=/build/target"]));
    args.push(format!("--target={triple}"));
    args.push(format!("--profile={}", rust.profile));
    args.extend(rust.members.iter().map(|member| format!("--package={}", member.value)));
    args.extend(rust.bins.iter().map(|bin| format!("--bin={}", bin.value)));
    if !rust.default_features {
        args.push("--no-default-features".to_owned());
    }
    if !rust.features.is_empty() {
        args.push(format!("--features={}", joined(&rust.features, ",")));
    }
    let mounts = vec![mounted("/source", source.stage), mounted(CRATES, crates), shop.cache("/build", "cargo")];
    steps.push(shop.command("cargo build", Command { args, env, workdir: path("/build"), network: false, mounts }));
    Ok(stages.add(shop.stage("build", shop.toolchain(), steps)))
}

/// The step that adds Rust's libraries for the target, where that is not the platform that compiles.
fn libraries(shop: &Workshop<'_>, stages: &mut Stages, triple: &str) -> Option<crate::Step> {
    if shop.target == shop.build {
        return None;
    }
    let base = super::target_base(shop.locked.recipe)?;
    let from = bases::layout(&shop.ground.images, &base.value, shop.target, shop.origin(base.span));
    let name = format!("Rust libraries {}", shop.target);
    let epoch = shop.locked.epoch();
    let stage = stages.add(Stage { name: name.clone(), platform: shop.target, epoch, from, steps: Vec::new() });
    let directory = path(&format!("/usr/lib/rustlib/{triple}"));
    let copy = Copy { path: directory.as_str().to_owned(), ..Copy::new(CopyFrom::Stage(stage), directory) };
    Some(shop.files(&name, vec![FileAction::Copy(copy)]))
}
