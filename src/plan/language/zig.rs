//! Zig programs: dependencies are fetched by the hash `build.zig.zon` has, compiling has no network and needs nothing of
//! the image's platform, since Zig brings C libraries along.

use oci::Architecture;
use recipe::Zig;

use super::{Command, Source, Workshop, joined, mounted, variables, words};
use crate::source::Checkout;
use crate::stage::{Stages, path};
use crate::{Epoch, Mount, MountKind, Stage, StageId};

/// What a source directory holds that is no source.
pub(super) const EXCLUDE: &[&str] = &[".git", "/.zig-cache", "/zig-out"];
/// The file that pins a program's dependencies.
pub(crate) const MANIFEST: &str = "build.zig.zon";

/// What says which dependencies there are: the program's own manifest, and those of packages in its directories.
const MANIFESTS: &[&str] = &[MANIFEST, "**/build.zig.zon"];
/// Where dependencies lie: Zig's global cache, of which only `p` outlasts the step.
const PACKAGES: &str = "/packages";
/// Where commits are mounted that the engine fetched.
const COMMITS: &str = "/commits";
const PATH: &str = "/usr/local/zig:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fetches every dependency, and theirs. Zig only unpacks and hashes: its own client knows neither proxies nor their
/// certificates. `$@` are directories of commits at hand, each before its hash. What `sed` takes out of a manifest are
/// the innermost braces, one dependency each.
const FETCH: &str = r#"
keep() {
  got=$(zig fetch "$1")
  if [ "$got" != "$2" ]; then echo "$3 has the hash $got, build.zig.zon says $2" >&2; exit 1; fi
}
get() {
  if [ -e "/packages/p/$2" ]; then return 0; fi
  echo "fetching $1"
  work=$(mktemp -d)
  case $1 in
  git+*)
    url=${1#git+}
    git -C "$work" init --quiet tree
    git -C "$work/tree" fetch --quiet --depth=1 "${url%%[?#]*}" "${url##*#}"
    git -C "$work/tree" -c advice.detachedHead=false checkout --quiet FETCH_HEAD
    rm -rf "$work/tree/.git"
    keep "$work/tree" "$2" "$1" ;;
  *)
    name=${1%%[?#]*}
    curl --fail --silent --show-error --location --retry 3 --output "$work/${name##*/}" "$1"
    keep "$work/${name##*/}" "$2" "$1" ;;
  esac
  rm -rf "$work"
}
visit() {
  if [ ! -f "$1/build.zig.zon" ]; then return 0; fi
  sed 's,^[[:space:]]*//.*,,' "$1/build.zig.zon" | tr '\n}' ' \n' | sed -n \
    -e 's/.*{//' \
    -e 's/.*\.url *= *"\([^"]*\)".*\.hash *= *"\([^"]*\)".*/\1 \2/p' \
    -e 's/.*\.hash *= *"\([^"]*\)".*\.url *= *"\([^"]*\)".*/\2 \1/p' \
    -e 's/.*\.path *= *"\([^"]*\)".*/path \1/p' |
  while read -r where what; do
    if [ "$where" = path ]; then visit "$1/$what"; else get "$where" "$what"; visit "/packages/p/$what"; fi
  done
}
mkdir -p /packages/p
while [ $# -gt 0 ]; do keep "$1" "$2" "$1"; shift 2; done
visit /source
find /packages -mindepth 1 -maxdepth 1 ! -name p -exec rm -rf {} +"#;

/// The source goes into the directory that is kept: files whose content is the same keep their time there, those that
/// changed get a new one, which is what Zig goes by.
const COMPILE: &str = r#"rsync --recursive --links --perms --checksum --delete /source/ /build/source/
mkdir -p /build/global /out/bin
ln -sfn /packages/p /build/global/p
cd /build/source
zig build --prefix /tmp/prefix --cache-dir /build/local "$@"
cd /tmp/prefix/bin
for bin in ${BINS:-*}; do install -m 0755 "$bin" /out/bin/; done"#;

/// What of a `build.zig.zon` is known before a build: the dependencies that are commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZigManifest {
    commits: Vec<Commit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    checkout: Checkout,
    /// Zig's hash of the package.
    hash: String,
}

impl ZigManifest {
    /// Reads the file. What it does not find is left to the step that fetches, and to Zig, which read all of it.
    pub(crate) fn parse(text: &str) -> Self {
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // A dependency is the innermost pair of braces. Spec: Zig, doc/build.zig.zon.md.
        let blocks = code.split('}').filter_map(|part| part.rsplit('{').next());
        let commits = blocks.filter_map(|block| {
            let (url, commit) = field(block, ".url")?.strip_prefix("git+")?.split_once('#')?;
            let is_id = commit.len() == 40 && commit.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let url = url.split('?').next().unwrap_or(url).to_owned();
            let hash = field(block, ".hash")?.to_owned();
            is_id.then(|| Commit { checkout: Checkout { url, commit: commit.to_owned() }, hash })
        });
        Self { commits: commits.collect() }
    }

    /// The commits among the dependencies.
    pub(crate) fn checkouts(&self) -> impl Iterator<Item = Checkout> {
        self.commits.iter().map(|commit| commit.checkout.clone())
    }
}

/// The text of a field in a block of ZON.
fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    let rest = block.split_once(name)?.1.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(text, _)| text)
}

/// Zig's name of a platform with the musl C library, which is linked in.
const fn target(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "x86_64-linux-musl",
        Architecture::Arm64 => "aarch64-linux-musl",
        Architecture::Riscv64 => "riscv64-linux-musl",
    }
}

/// The stage that compiles; the programs are in `/out/bin`.
pub(super) fn compile(shop: &Workshop<'_>, stages: &mut Stages, zig: &Zig, source: &Source) -> StageId {
    let fetched = fetch(shop, stages, source);
    let packages = Mount { target: path(PACKAGES), kind: MountKind::Stage { stage: fetched, path: path(PACKAGES) } };
    let mounts = vec![packages, mounted("/source", source.stage), shop.cache("/build", "zig")];
    let mut env = environment("/build/global");
    env.insert("BINS".to_owned(), joined(&zig.bins, " "));
    let version = shop.locked.version();
    let mut args = words(&["/bin/sh", "-euc", COMPILE, "zig"]);
    args.push(format!("-Dtarget={}", target(shop.target.architecture)));
    args.push(format!("-Doptimize={}", zig.optimize.as_str()));
    args.extend(zig.options.iter().map(|(name, value)| format!("-D{name}={}", value.replace("{version}", &version))));
    let mut steps: Vec<_> = shop.packages().into_iter().collect();
    steps.push(shop.command("zig build", Command { args, env, workdir: path("/build"), network: false, mounts }));
    stages.add(shop.stage("build", shop.toolchain(), steps))
}

/// The stage that holds the dependencies.
fn fetch(shop: &Workshop<'_>, stages: &mut Stages, source: &Source) -> StageId {
    let origin = shop.origin(shop.locked.recipe.origin.span);
    let mut args = words(&["/bin/sh", "-euc", FETCH, "fetch"]);
    let mut mounts = Vec::new();
    for Commit { checkout, hash } in &shop.locked.zig.commits {
        let (from, root) = checkout.from(shop.ground, origin.clone());
        let name = format!("{} {}", checkout.url, checkout.commit);
        let stage = stages.add(Stage { name, platform: shop.build, epoch: Epoch(0), from, steps: Vec::new() });
        let directory = format!("{COMMITS}/{}", checkout.commit);
        let kind = MountKind::Stage { stage, path: path(root) };
        mounts.push(Mount { target: path(&directory), kind });
        args.extend([directory, hash.clone()]);
    }
    let manifests = shop.files(MANIFEST, vec![source.tree.only(MANIFESTS).copy("/source")]);
    let fetch = Command { args, env: environment(PACKAGES), workdir: path("/source"), network: true, mounts };
    stages.add(shop.stage("packages", shop.toolchain(), vec![manifests, shop.command("zig fetch", fetch)]))
}

fn environment(cache: &str) -> std::collections::BTreeMap<String, String> {
    variables([("PATH", PATH), ("ZIG_GLOBAL_CACHE_DIR", cache), ("NO_COLOR", "1")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_found_and_nothing_else() {
        let text = r#".{
    .name = .sample,
    // .gone = .{ .url = "git+https://example.org/gone#0123456789abcdef0123456789abcdef01234567", .hash = "gone" },
    .dependencies = .{
        .here = .{ .path = "vendor/here" },
        .archive = .{ .url = "https://example.org/archive.tar.gz", .hash = "archive-1" },
        .commit = .{
            .url = "git+https://example.org/commit.git?ref=main#0123456789abcdef0123456789abcdef01234567",
            .hash = "commit-1",
            .lazy = true,
        },
        .branch = .{ .hash = "branch-1", .url = "git+https://example.org/branch#main" },
    },
    .paths = .{ "build.zig", "src" },
}"#;
        let expected = Commit {
            checkout: Checkout {
                url: "https://example.org/commit.git".to_owned(),
                commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            },
            hash: "commit-1".to_owned(),
        };
        assert_eq!(ZigManifest::parse(text).commits, [expected]);
    }
}
