//! From a locked recipe to its plan: the image's stage and config.

use std::collections::BTreeMap;
use std::time::Duration;

use oci::{ContainerConfig, HealthCheck, Platform, Repository};
use recipe::{ContainerPath, DebianRequest, Health, HealthProbe, Language, Naming, Recipe, ShippedFile, SourceSpec};

use crate::custom::Custom;
use crate::language::Workshop;
use crate::source::LockedSource;
use crate::stage::{Stages, path};
use crate::tier::Tiers;
use crate::{
    BaseImages, Context, Copy, CopyFrom, DebianLayers, FileAction, Ground, LockedRecipe, Origin, Plan, PlanError,
    Stage, StageId, Step, StepKind, bases, init, language, requests,
};

/// Seconds since 1970 that no time in an image exceeds. Spec: reproducible-builds.org `SOURCE_DATE_EPOCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// The image's config, complete but for its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlan {
    /// How its containers run.
    pub config: ContainerConfig,
    /// Its creation time, and the bound of all others.
    pub epoch: Epoch,
    /// Its version, which tags derive from.
    pub version: String,
    /// Where the recipe wants the runtime pushed.
    pub repository: Option<Repository>,
    /// How the images of its tiers are called.
    pub naming: Naming,
    /// One line for each layer, lowest first.
    pub history: Vec<String>,
}

impl Epoch {
    /// As RFC 3339 in UTC, second precision.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }
}

/// What is built where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The platform steps run on.
    pub build: Platform,
    /// The platform the image is for.
    pub target: Platform,
    /// The bound of all times in the image.
    pub epoch: Epoch,
}

/// Debian's static users and groups. Spec: Debian Policy §9.2.2, base-passwd's masters.
const USERS: [(&str, u32, u32, &str); 3] =
    [("root", 0, 0, "/root"), ("daemon", 1, 1, "/usr/sbin"), ("nobody", 65534, 65534, "/nonexistent")];

impl Plan {
    /// Plans the image of a recipe for `target`, built on `build`.
    ///
    /// # Errors
    /// Mistakes that only show when everything is put together: unknown or circular stages, missing tools.
    pub fn image(
        locked: &LockedRecipe<'_>,
        ground: &Ground,
        Build { build, target, epoch }: Build,
    ) -> Result<Self, PlanError> {
        let images = &ground.images;
        let mut stages = Stages::default();
        let recipe = locked.recipe;
        locked.check_requirements()?;
        if let Language::EspIdf(idf) = &recipe.build.language.value {
            let shop = Workshop { locked, ground, build, target };
            let result = language::firmware(&shop, &mut stages, idf);
            return Ok(Self {
                target: recipe.target(&locked.tier),
                platform: target,
                stages: stages.into_vec(),
                result,
                image: firmware(locked, epoch),
            });
        }
        let origin = Origin { source: recipe.source.clone(), span: recipe.image.base.span };
        let base = |platform| bases::layout(images, &recipe.image.base.value, platform, origin.clone());
        let mut custom = Custom::new(locked, ground, build, epoch);
        custom.all(&mut stages)?;
        let own = requests::recipe_request(recipe, &locked.chain, target);
        let layers = &ground.layers;
        let mut steps: Vec<Step> = own.and_then(|own| packages_step(locked, layers, &own)).into_iter().collect();
        let init = init::compile(&mut stages, locked, images, build, target)?;
        steps.push(init_step(recipe, init, epoch));
        let shop = Workshop { locked, ground, build, target };
        steps.extend(shop.build(&mut stages, &mut custom)?);
        for copy in &recipe.image.copy {
            let from = custom.stage_or_base(&mut stages, &copy.from)?;
            let action = plain_copy(CopyFrom::Stage(from), copy.path.value.as_str(), copy.to.value.clone());
            let origin = Origin { source: recipe.source.clone(), span: copy.from.span };
            let name = format!("{} from {}", copy.path.value, copy.from.value);
            steps.push(Step { name, origin, kind: StepKind::Files(vec![action]) });
        }
        steps.push(settings(recipe));
        let name = recipe.name.value.to_string();
        let mut history = locked.base(target).history();
        history.extend(steps.iter().map(|step| step.name.clone()));
        let runtime = stages.add(Stage { name, platform: target, epoch, from: base(target), steps });
        let mut tiers = Tiers { locked, layers, custom: &mut custom, build: Build { build, target, epoch } };
        let (result, above) = tiers.stages(&mut stages, runtime)?;
        history.extend(above);
        let image = ImagePlan {
            config: container_config(locked, images, target),
            epoch,
            version: locked.version(),
            repository: recipe.image.repository.as_ref().map(|repository| repository.value.clone()),
            naming: recipe.image.naming,
            history,
        };
        Ok(Self { target: recipe.target(&locked.tier), platform: target, stages: stages.into_vec(), result, image })
    }

    /// Plans the resolution of a recipe's dependencies: its tree is one file, the language's lock. `None` for
    /// recipes that have no such file.
    ///
    /// # Errors
    /// As [`Plan::image`].
    pub fn resolution(locked: &LockedRecipe<'_>, ground: &Ground, build: Platform) -> Result<Option<Self>, PlanError> {
        let mut stages = Stages::default();
        let shop = Workshop { locked, ground, build, target: build };
        let Some(result) = shop.resolution(&mut stages)? else { return Ok(None) };
        let image = ImagePlan {
            config: ContainerConfig::default(),
            epoch: locked.epoch(),
            version: locked.version(),
            repository: None,
            naming: Naming::default(),
            history: Vec::new(),
        };
        let target = locked.recipe.name.value.clone().into();
        Ok(Some(Self { target, platform: build, stages: stages.into_vec(), result, image }))
    }
}

/// The image of firmware: it holds files, and nothing in it is run.
fn firmware(locked: &LockedRecipe<'_>, epoch: Epoch) -> ImagePlan {
    let mut labels = labels(locked, &BaseImages::new(), Platform::LINUX_AMD64);
    labels.remove("org.opencontainers.image.base.name");
    ImagePlan {
        config: ContainerConfig { labels, ..ContainerConfig::default() },
        epoch,
        version: locked.version(),
        repository: locked.recipe.image.repository.as_ref().map(|repository| repository.value.clone()),
        naming: locked.recipe.image.naming,
        history: vec!["firmware".to_owned()],
    }
}

pub(crate) fn plain_copy(from: CopyFrom, path: &str, to: ContainerPath) -> FileAction {
    FileAction::Copy(Copy { path: path.to_owned(), ..Copy::new(from, to) })
}

/// The layer of a set of Debian packages.
pub(crate) fn packages_step(locked: &LockedRecipe<'_>, layers: &DebianLayers, request: &DebianRequest) -> Option<Step> {
    let manifest = *layers.get(&(request.owner.clone(), request.platform))?;
    let name = bases::debian_step_name(locked.lock, Some(request));
    let origin = Origin { source: request.place.0.clone(), span: request.place.1 };
    Some(Step { name, origin, kind: StepKind::Overlay { name: request.owner.clone(), manifest } })
}

fn init_step(recipe: &Recipe, init: StageId, epoch: Epoch) -> Step {
    let copy = FileAction::Copy(Copy {
        path: "/out/claw-init".to_owned(),
        mode: Some(0o755),
        // It is compiled once for many images, maybe before this one's source was written: when is nobody's business.
        timestamp: Some(epoch.0),
        ..Copy::new(CopyFrom::Stage(init), path(init::INIT_PATH))
    });
    let origin = Origin { source: recipe.source.clone(), span: recipe.image.base.span };
    Step { name: "claw-init".to_owned(), origin, kind: StepKind::Files(vec![copy]) }
}

/// The last, small layer: the user, its directories, the configuration, and what claw-init is told.
fn settings(recipe: &Recipe) -> Step {
    let user = &recipe.image.user;
    let owner = (user.uid, user.gid);
    let mut actions =
        vec![passwd(recipe), group(recipe), FileAction::Directory { path: user.home.clone(), mode: 0o755, owner }];
    let volumes = recipe.image.volumes.iter().filter(|volume| volume.value != user.home);
    actions.extend(volumes.map(|path| volume(recipe, &path.value)));
    if let Some(config) = &recipe.config {
        actions.push(FileAction::Directory { path: path(init::DEFAULTS), mode: 0o755, owner: (0, 0) });
        actions.push(beside(&config.file.value, init::default_path(config), Some(0o644), (0, 0)));
    }
    actions.extend(recipe.image.files.iter().map(|file| shipped(recipe, file)));
    for (link, target) in &recipe.image.links {
        let path = link.parse().expect("checked when the recipe was read");
        actions.push(FileAction::Symlink { path, target: target.value.clone() });
    }
    actions.push(FileAction::Directory { path: path("/etc/claw"), mode: 0o755, owner: (0, 0) });
    let manifest = FileAction::Write {
        path: path(init::MANIFEST_PATH),
        data: init::manifest(recipe, &recipe.health),
        mode: 0o644,
        owner: (0, 0),
    };
    actions.push(manifest);
    let origin = Origin { source: recipe.source.clone(), span: recipe.name.span };
    Step { name: "settings".to_owned(), origin, kind: StepKind::Files(actions) }
}

/// A volume takes over the owner of the directory it is mounted on.
pub(crate) fn volume(recipe: &Recipe, volume: &ContainerPath) -> FileAction {
    let user = &recipe.image.user;
    let mode = if is_inside(volume, &user.home) { 0o700 } else { 0o755 };
    FileAction::Directory { path: volume.clone(), mode, owner: (user.uid, user.gid) }
}

fn is_inside(path: &ContainerPath, directory: &ContainerPath) -> bool {
    path.as_str().strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// A file beside the recipe. Where the user's data are it is the user's.
pub(crate) fn shipped(recipe: &Recipe, file: &ShippedFile) -> FileAction {
    let user = &recipe.image.user;
    let mut data = recipe.image.volumes.iter().map(|volume| &volume.value).chain([&user.home]);
    let is_data = data.any(|directory| file.to.value == *directory || is_inside(&file.to.value, directory));
    let owner = if is_data { (user.uid, user.gid) } else { (0, 0) };
    beside(&file.from.value, file.to.value.clone(), file.mode, owner)
}

fn beside(from: &str, to: ContainerPath, mode: Option<u32>, owner: (u32, u32)) -> FileAction {
    let from = from.trim_start_matches("./").trim_matches('/');
    let context = Context { name: "recipe".to_owned(), include: vec![from.to_owned()], exclude: Vec::new() };
    FileAction::Copy(Copy { path: format!("/{from}"), mode, owner, ..Copy::new(CopyFrom::Context(context), to) })
}

pub(crate) fn root_file(file: &str, text: String) -> FileAction {
    FileAction::Write { path: path(file), data: text.into_bytes(), mode: 0o644, owner: (0, 0) }
}

pub(crate) fn passwd(recipe: &Recipe) -> FileAction {
    let user = &recipe.image.user;
    let line = |name: &str, uid: u32, gid: u32, home: &str, shell: &str| {
        format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n")
    };
    let shell = |uid| if uid == 0 { "/bin/sh" } else { "/usr/sbin/nologin" };
    // The recipe's user may be one of them, with another home.
    let others = USERS.iter().filter(|(name, uid, ..)| *name != user.name.as_str() && *uid != user.uid);
    let users = others.map(|(name, uid, gid, home)| line(name, *uid, *gid, home, shell(*uid)));
    let own = line(user.name.as_str(), user.uid, user.gid, user.home.as_str(), "/bin/sh");
    root_file("/etc/passwd", users.chain([own]).collect())
}

pub(crate) fn group(recipe: &Recipe) -> FileAction {
    let user = &recipe.image.user;
    let own = (user.name.as_str(), user.gid);
    let known =
        [("root", 0), ("daemon", 1), ("tty", 5), ("mail", 8), ("shadow", 42), ("staff", 50), ("nogroup", 65534)];
    let is_known = known.iter().any(|(_, gid)| *gid == own.1);
    let others = known.into_iter().filter(|(name, _)| *name != own.0);
    let groups = others.chain((!is_known).then_some(own)).map(|(name, gid)| format!("{name}:x:{gid}:\n"));
    root_file("/etc/group", groups.collect())
}

fn container_config(locked: &LockedRecipe<'_>, images: &BaseImages, target: Platform) -> ContainerConfig {
    let recipe = &locked.image;
    let image = &recipe.image;
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME".to_owned(), image.user.home.to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    env.extend(image.env.clone());
    ContainerConfig {
        user: format!("{}:{}", image.user.uid, image.user.gid),
        exposed_ports: image.ports.iter().map(|port| format!("{}/tcp", port.value)).collect(),
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: vec![init::INIT_PATH.to_owned()],
        // Given a command, claw-init runs that one alone.
        cmd: if image.processes.is_empty() { image.command.clone() } else { Vec::new() },
        volumes: image.volumes.iter().map(|volume| volume.value.to_string()).collect(),
        working_dir: image.workdir.to_string(),
        labels: labels(locked, images, target),
        stop_signal: image.stop_signal.clone(),
        healthcheck: health_check(&recipe.health),
    }
}

/// Spec: OCI image-spec annotations.md §Pre-Defined Annotation Keys.
fn labels(locked: &LockedRecipe<'_>, images: &BaseImages, target: Platform) -> BTreeMap<String, String> {
    let recipe = &locked.image;
    let title = locked.recipe.target(&locked.tier).component();
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title".to_owned(), title),
        ("org.opencontainers.image.description".to_owned(), recipe.summary.clone()),
        ("org.opencontainers.image.licenses".to_owned(), recipe.license.value.clone()),
        ("org.opencontainers.image.version".to_owned(), locked.version()),
        ("org.opencontainers.image.base.name".to_owned(), format!("base/{}", recipe.image.base.value)),
    ]);
    if let Some(digest) = images.get(&(recipe.image.base.value.clone(), target)) {
        labels.insert("org.opencontainers.image.base.digest".to_owned(), digest.to_string());
    }
    if let Some(homepage) = &recipe.homepage {
        labels.insert("org.opencontainers.image.url".to_owned(), homepage.clone());
    }
    match (locked.source, &recipe.origin.value) {
        (LockedSource::Release(release), _) => {
            labels.insert("org.opencontainers.image.source".to_owned(), release.url.clone());
        }
        (LockedSource::Commit(commit), _) => {
            labels.insert("org.opencontainers.image.source".to_owned(), commit.url.clone());
            labels.insert("org.opencontainers.image.revision".to_owned(), commit.commit.clone());
        }
        (LockedSource::Nothing, SourceSpec::Archive { url, .. }) => {
            labels.insert("org.opencontainers.image.source".to_owned(), url.value.clone());
        }
        (LockedSource::Nothing, _) => {}
    }
    labels
}

fn health_check(health: &Health) -> Option<HealthCheck> {
    match health.probe {
        HealthProbe::None => None,
        HealthProbe::Http { .. } | HealthProbe::Exec(_) => Some(HealthCheck {
            test: vec!["CMD".to_owned(), init::INIT_PATH.to_owned(), "health".to_owned()],
            interval: nanos(health.interval),
            timeout: nanos(health.timeout),
            start_period: nanos(health.start_period),
            retries: u64::from(health.retries),
        }),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("recipes hold durations below a million hours")
}
