//! Plans of the real recipes, under a lock whose answers are made up but stay the same.

use diag::{Reported, Source};
use oci::{Digest, Platform};
use recipe::{Base, Lock, LockedCommit, LockedDebian, LockedPackage, LockedRelease, PublishedImage, Recipe, Tier};

use crate::{
    ArchiveSet, Build, ContextPlace, Epoch, FileAction, Ground, ImagePlace, LockedRecipe, Places, Plan, Project,
    PublishedError, Requests, StepKind, describe,
};

const OPENCLAW: &str = include_str!("../../runtimes/openclaw/recipe.toml");
const PICOCLAW: &str = include_str!("../../runtimes/picoclaw/recipe.toml");
const MICROCLAW: &str = include_str!("../../runtimes/microclaw/recipe.toml");
const NULLCLAW: &str = include_str!("../../runtimes/nullclaw/recipe.toml");
const BASES: [(&str, &str); 11] = [
    ("base/debian.toml", include_str!("../../base/debian.toml")),
    ("base/cc.toml", include_str!("../../base/cc.toml")),
    ("base/go.toml", include_str!("../../base/go.toml")),
    ("base/node.toml", include_str!("../../base/node.toml")),
    ("base/npm.toml", include_str!("../../base/npm.toml")),
    ("base/rust.toml", include_str!("../../base/rust.toml")),
    ("base/rust-target.toml", include_str!("../../base/rust-target.toml")),
    ("base/static.toml", include_str!("../../base/static.toml")),
    ("base/init-target.toml", include_str!("../../base/init-target.toml")),
    ("base/init-toolchain.toml", include_str!("../../base/init-toolchain.toml")),
    ("base/zig.toml", include_str!("../../base/zig.toml")),
];

pub(crate) fn project() -> Project {
    Project::new(BASES.map(|(name, text)| Base::parse(&Source::new(name, text)).expect("the bases are right")))
        .expect("their names differ")
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(&Source::new("recipe.toml", text)).expect("the recipe is right")
}

/// Answers every request with something that depends on nothing but the request.
fn answer(requests: &Requests) -> Lock {
    let mut lock = Lock::default();
    for request in &requests.releases {
        lock.put_release(LockedRelease {
            registry: request.registry,
            architecture: request.architecture,
            package: request.package.clone(),
            requirement: request.requirement.to_string(),
            version: request.requirement.to_string(),
            published: 1_790_000_000,
            url: format!("https://registry.invalid/{}.tgz", request.package.replace('/', "-")),
            integrity: None,
            sha256: Digest::of(&request.package),
            size: 1,
        });
    }
    for request in &requests.commits {
        lock.put_commit(LockedCommit {
            url: request.url.clone(),
            reference: request.reference.to_string(),
            commit: Digest::of(&request.url).hex()[..40].to_owned(),
            tree: Digest::of(&request.url).hex()[..40].to_owned(),
            committed: 1_785_000_000,
        });
    }
    for request in &requests.debian {
        lock.put_debian(LockedDebian {
            owner: request.owner.clone(),
            platform: request.platform,
            archive: request.archive.clone(),
            suites: request.suites.clone(),
            components: request.components.clone(),
            wanted: request.wanted.clone(),
            exclude: request.exclude.clone(),
            below: request.below.clone(),
            epoch: 1_780_000_000,
            packages: request
                .wanted
                .iter()
                .map(|name| LockedPackage {
                    name: name.clone(),
                    version: "1".to_owned(),
                    architecture: request.platform.architecture.debian().to_owned(),
                    sha256: Digest::of(name),
                    size: 1,
                    url: format!("https://archive.invalid/{name}.deb"),
                })
                .collect(),
        });
    }
    lock
}

fn plan(text: &str, target: Platform) -> Result<Plan, crate::PlanError> {
    plan_tier(&recipe(text), &Tier::Runtime, target)
}

/// The plan of one of a recipe's images. Configurations have this default.
pub(crate) fn plan_tier(recipe: &Recipe, tier: &Tier, target: Platform) -> Result<Plan, crate::PlanError> {
    const DEFAULT: &str = "// The default.\n{\n  gateway: { port: 1 }, // kept\n}\n";
    let project = project();
    let requests = Requests::of(recipe, &project)?;
    let lock = answer(&requests);
    let locked = LockedRecipe::new(recipe, &project, &lock, vec!["target".to_owned()])?;
    let locked = locked.with_lock_file(&Source::new("Cargo.lock", CARGO_LOCK))?.at(tier, Some(DEFAULT))?;
    let build = Platform::LINUX_AMD64;
    let layers = requests
        .debian
        .iter()
        .map(|request| ((request.owner.clone(), request.platform), Digest::of(format!("{request}"))))
        .collect();
    let mut ground = Ground { layers, ..Ground::default() };
    let sets = |sets: Vec<ArchiveSet>| sets.into_iter().map(|set| (set.digest(), Digest::of(set.name)));
    ground.archives.extend(sets(locked.archives()));
    for base in locked.bases(build, target)? {
        ground.archives.extend(sets(base.archives()));
        let digest = base.plan(&ground).lower().definition.digest();
        ground.images.insert((base.base.name.value.clone(), base.platform), digest);
    }
    Plan::image(&locked, &ground, Build { build, target, epoch: locked.epoch() })
}

const CARGO_LOCK: &str = r#"
version = 4

[[package]]
name = "microclaw"
version = "0.5.0"
dependencies = ["log"]

[[package]]
name = "log"
version = "0.4.35"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "5d15f86d12da44cd8d4ec3c73984537eb7f4cadcb9776a575a0a8a05ca11005c"
"#;

const CUSTOM: &str = r#"
schema = 1
[runtime]
name = "sample"
summary = "A program"
license = "MIT"
[source]
path = "."
[build]
language = "custom"
[stages.tools]
from = "debian"
steps = [{ write = "/tools/hello", text = "hello" }]
[stages.build]
from = "init-toolchain"
steps = [
  { copy = ["src", "Cargo.toml"], to = "/src", exclude = ["**/*.md"] },
  { copy = "/tools", from = "tools", to = "/opt/tools" },
  { run = ["make"], workdir = "/src", network = true, cache = ["/var/cache/make"], secrets = ["token"], env = { A = "b" } },
  { remove = "/src/*.tmp" },
]
[image]
base = "debian"
copy = [{ from = "build", path = "/src/out", to = "/usr/local/bin/sample" }]
user = { name = "app", uid = 1000 }
command = ["/usr/local/bin/sample"]
"#;

#[test]
fn the_plan_of_openclaw() {
    let plan = plan(OPENCLAW, Platform::LINUX_AMD64).expect("plans");
    insta::assert_snapshot!(describe(&plan));
}

#[test]
fn the_plan_of_a_go_program_for_another_platform() {
    insta::assert_snapshot!(describe(&plan(PICOCLAW, Platform::LINUX_ARM64).expect("plans")));
}

#[test]
fn the_plan_of_a_rust_program_with_a_web_page_for_another_platform() {
    insta::assert_snapshot!(describe(&plan(MICROCLAW, Platform::LINUX_ARM64).expect("plans")));
}

#[test]
fn the_config_of_openclaw() {
    let plan = plan(OPENCLAW, Platform::LINUX_AMD64).expect("plans");
    insta::assert_json_snapshot!(plan.image.config);
}

#[test]
fn the_llb_of_openclaw() {
    let lowered = plan(OPENCLAW, Platform::LINUX_ARM64).expect("plans").lower();
    insta::assert_snapshot!(lowered.definition.to_text());
    assert_eq!(lowered.contexts.iter().map(String::as_str).collect::<Vec<_>>(), ["init", "recipe"]);
}

#[test]
fn the_plan_of_custom_stages() {
    let plan = plan(CUSTOM, Platform::LINUX_AMD64).expect("plans");
    insta::assert_snapshot!(describe(&plan));
}

#[test]
fn equal_inputs_lower_to_equal_bytes() {
    for text in [OPENCLAW, CUSTOM] {
        let marshal = || plan(text, Platform::LINUX_AMD64).expect("plans").lower().definition.marshal();
        assert_eq!(marshal(), marshal());
    }
}

#[test]
fn the_platform_changes_nothing_of_the_config_but_the_base() {
    let plans = [Platform::LINUX_AMD64, Platform::LINUX_ARM64].map(|target| plan(OPENCLAW, target).expect("plans"));
    let [mut amd64, mut arm64] = plans.map(|plan| plan.image.config);
    let base = "org.opencontainers.image.base.digest";
    assert_ne!(amd64.labels.remove(base), arm64.labels.remove(base));
    assert_eq!(amd64, arm64);
}

#[test]
fn a_lock_that_does_not_answer_is_named() {
    let (recipe, project) = (recipe(OPENCLAW), project());
    let requests = Requests::of(&recipe, &project).expect("requests");
    let mut lock = answer(&requests);
    let text = OPENCLAW.replace(r#"packages = ["curl", "git"]"#, r#"packages = ["git", "jq"]"#);
    let changed = self::recipe(&text);
    let error = LockedRecipe::new(&changed, &project, &lock, Vec::new()).expect_err("jq is not locked").diagnostic();
    assert_eq!(error.code, diag::codes::lock::STALE);
    assert_eq!(error.labels[0].text, "packages added: jq; removed: curl");
    lock.retain(&requests.releases, &[], &[], &[]);
    assert!(LockedRecipe::new(&recipe, &project, &lock, Vec::new()).is_err());
}

#[test]
fn an_epoch_prints_as_a_date() {
    assert_eq!(Epoch(1_790_000_000).to_rfc3339(), "2026-09-21T14:13:20Z");
}

/// Records everything a plan for `target` on amd64 stands on as published.
fn publish(lock: &mut Lock, recipe: &Recipe, project: &Project, target: Platform) {
    let known = lock.clone();
    let locked = LockedRecipe::new(recipe, project, &known, Vec::new()).expect("the lock answers");
    let mut put = |owner: String, platform: Platform, inputs: Digest| {
        let digest = Digest::of(format!("{owner} {platform}"));
        let reference = format!("registry.invalid/{owner}@{digest}").parse().expect("a reference");
        lock.put_published(PublishedImage { owner, platform, reference, inputs });
    };
    for (base, _) in locked.stands_on(Platform::LINUX_AMD64, target).expect("the bases are there") {
        put(format!("base/{}", base.base.name.value), base.platform, base.inputs());
    }
    for (request, inputs) in locked.packages_inputs(target) {
        put(request.owner, target, inputs);
    }
}

#[test]
fn a_daemon_takes_bases_from_registries_and_files_from_its_client() {
    let (recipe, project) = (recipe(OPENCLAW), project());
    let (build, target) = (Platform::LINUX_AMD64, Platform::LINUX_ARM64);
    let mut lock = answer(&Requests::of(&recipe, &project).expect("requests"));
    publish(&mut lock, &recipe, &project, target);
    let locked = LockedRecipe::new(&recipe, &project, &lock, Vec::new()).expect("the lock answers");
    let given = |owner: &str, platform| {
        let place = ImagePlace::Layout { store: "layout".into(), session: "session".into() };
        (owner == "base/node" && platform == build).then(|| (Digest::of("given"), place))
    };
    let published = locked.published(build, target, &given).expect("all is published");
    let build = Build { build, target, epoch: locked.epoch() };
    let plan = Plan::image(&locked, &published.ground, build).expect("plans");
    let local = llb::LocalSource { session: Some("session".into()), ..llb::LocalSource::new("dockerfile") };
    let tree =
        ContextPlace::Tree { source: Box::new(llb::SourceOp::Local(local)), directory: "runtimes/openclaw".to_owned() };
    let files = ContextPlace::Files([("src/main.rs".to_owned(), b"fn main() {}".to_vec())].into());
    let contexts = [("recipe".to_owned(), tree), ("init".to_owned(), files)].into();
    let lowered = plan.lower_to(&Places { contexts, images: published.places });
    insta::assert_snapshot!(lowered.definition.to_text());
    assert_eq!(lowered.contexts.iter().map(String::as_str).collect::<Vec<_>>(), ["dockerfile"]);
    // Where things are changes nothing of what they are.
    assert_eq!(plan.image.config.labels["org.opencontainers.image.base.digest"], {
        Digest::of(format!("base/node {target}")).to_string()
    });
}

#[test]
fn all_that_is_not_published_is_told_at_once() {
    let (recipe, project) = (recipe(OPENCLAW), project());
    let target = Platform::LINUX_AMD64;
    let mut lock = answer(&Requests::of(&recipe, &project).expect("requests"));
    let missing = |lock: &Lock| {
        let locked = LockedRecipe::new(&recipe, &project, lock, Vec::new()).expect("the lock answers");
        match locked.published(target, target, &|_, _| None) {
            Err(PublishedError::Missing(missing)) => missing,
            other => panic!("something is missing, and it is said: {other:?}"),
        }
    };
    let owners = |lock: &Lock| missing(lock).into_iter().map(|one| one.owner).collect::<Vec<_>>();
    assert_eq!(owners(&lock), ["base/node", "base/init-toolchain", "openclaw"]);
    publish(&mut lock, &recipe, &project, target);
    // The packages below moved on, and with them all that lies on them.
    let mut below = lock.debian_of("base/debian", target).expect("it is locked").clone();
    below.packages[0].sha256 = Digest::of("newer");
    lock.put_debian(below);
    let outdated = missing(&lock);
    assert!(outdated.len() == 3 && outdated.iter().all(|one| one.is_outdated), "{outdated:?}");
    insta::assert_debug_snapshot!(outdated[2].diagnostic());
}

#[test]
fn bases_that_something_is_only_copied_from_are_asked_for_and_planned() {
    let text = CUSTOM.replace(r#"copy = "/tools", from = "tools""#, r#"copy = "/usr/local/bin/node", from = "node""#);
    let owners: Vec<String> = Requests::of(&recipe(&text), &project())
        .expect("requests")
        .debian
        .into_iter()
        .map(|request| request.owner)
        .collect();
    assert!(owners.contains(&"base/node".to_owned()), "{owners:?}");
    let plan = plan(&text, Platform::LINUX_AMD64).expect("plans");
    assert!(plan.stage_named("base/node").is_some());
}

#[test]
fn a_user_that_debian_has_already_is_there_once() {
    let plan = plan(NULLCLAW, Platform::LINUX_AMD64).expect("the recipe can be planned");
    let actions = plan.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match &step.kind {
        StepKind::Files(actions) => Some(actions),
        _ => None,
    });
    let lines = |file: &str| -> Vec<String> {
        let written = actions.clone().flatten().filter_map(|action| match action {
            FileAction::Write { path, data, .. } if path.as_str() == file => Some(String::from_utf8_lossy(data)),
            _ => None,
        });
        written.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let of = |file| lines(file).into_iter().filter(|line| line.contains("65534")).collect::<Vec<_>>();
    assert_eq!(of("/etc/passwd"), ["nobody:x:65534:65534:nobody:/nullclaw-data:/bin/sh"]);
    assert_eq!(of("/etc/group"), ["nogroup:x:65534:"]);
}
