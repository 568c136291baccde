//! Node.js programs, installed by pnpm: fetch with network, install without.

mod release;
mod source;

use oci::Architecture;
use recipe::{Base, ContainerPath, Name, Node, Recipe, RecipeError, Registry, ReleaseRequest, SourceSpec, Tool};

use diag::codes;

use super::{Workshop, mounted, variables};
use crate::archives::download;
use crate::bases::archive_stage;
use crate::stage::{Stages, path};
use crate::{
    Copy, CopyFrom, FileAction, LockedRecipe, Mount, MountKind, Origin, PlanError, Run, StageId, Step, StepKind,
};

/// Where pnpm is mounted while it runs.
const PNPM: &str = "/run/clawbuild/pnpm";
/// Where fetched packages lie between the two steps. Its bytes differ from run to run, so it never enters an image, and
/// a change in it alone rebuilds nothing that the lock did not change too.
const STORE: &str = "/store";
/// Where the fetch runs, away from what is installed: it leaves files of its own behind.
const FETCH: &str = "/fetch";
/// pnpm's own state, which carries times and paths and which nothing reads at run time.
const STATE: [&str; 3] = [".modules.yaml", ".pnpm-workspace-state-v1.json", ".pnpm"];
/// From this major version on, pnpm's program is an ECMAScript module.
const MODULE_SINCE: u64 = 11;

/// pnpm, as a recipe or the nearest base names it.
pub(crate) enum Manager<'a> {
    /// A native program of the base's.
    Tool(&'a Tool, &'a Base),
    /// The version the recipe asks for, which Node.js runs.
    Release(&'a diag::Spanned<semver::Version>, &'a Recipe),
}

impl<'a> Manager<'a> {
    /// The one a recipe is built with, whose image stands on `chain`.
    ///
    /// # Errors
    /// Nobody names one.
    pub(crate) fn of(recipe: &'a Recipe, node: &'a Node, chain: &[&'a Base]) -> Result<Self, PlanError> {
        if let Some(version) = &node.pnpm {
            return Ok(Self::Release(version, recipe));
        }
        let name: Name = "pnpm".parse().expect("a name");
        let tool = chain.iter().rev().find_map(|base| base.tools.get(&name).map(|tool| Self::Tool(tool, base)));
        tool.ok_or_else(|| {
            let span = recipe.build.language.span;
            let message = format!(
                "language `node` needs the tool `pnpm`, which base `{}` does not bring",
                recipe.image.base.value
            );
            RecipeError::at(codes::recipe::UNMET_TOOL, &recipe.source, span, message)
                .help("use `base = \"node\"`, or name a version: `pnpm = \"10.33.0\"`")
                .into()
        })
    }

    /// What is asked for, to run on this architecture.
    pub(crate) fn request(&self, architecture: Architecture) -> ReleaseRequest {
        match self {
            Self::Tool(tool, base) => tool.archive.request(architecture, &base.source),
            Self::Release(version, recipe) => ReleaseRequest {
                registry: Registry::Npm,
                package: "pnpm".to_owned(),
                requirement: version.value.to_string().parse().expect("a version is a requirement"),
                architecture: None,
                place: (recipe.source.clone(), version.span),
            },
        }
    }

    /// The words that start it.
    fn command(&self) -> Vec<String> {
        match self {
            Self::Tool(tool, _) => {
                vec![path(PNPM).join(tool.program.value.trim_start_matches('/')).to_string()]
            }
            Self::Release(version, _) => {
                let ending = if version.value.major < MODULE_SINCE { "cjs" } else { "mjs" };
                vec!["node".to_owned(), format!("{PNPM}/package/bin/pnpm.{ending}")]
            }
        }
    }
}

struct Parts<'a> {
    shop: &'a Workshop<'a>,
    locked: &'a LockedRecipe<'a>,
    node: &'a Node,
    pnpm: StageId,
    command: Vec<String>,
}

impl<'a> Parts<'a> {
    fn new(shop: &'a Workshop<'a>, stages: &mut Stages, node: &'a Node) -> Result<Self, PlanError> {
        let locked = shop.locked;
        let manager = Manager::of(locked.recipe, node, &locked.chain)?;
        let request = manager.request(shop.build.architecture);
        let pinned = locked.release(&request);
        let origin = Origin { source: request.place.0, span: request.place.1 };
        let pnpm = archive_stage(stages, "pnpm", download(&pinned.url, pinned.sha256), shop.build, origin);
        Ok(Self { shop, locked, node, pnpm, command: manager.command() })
    }

    fn run(&self, name: &str, directory: &ContainerPath, network: bool, args: &[&str]) -> Step {
        let mut command = self.command.clone();
        command.extend(["-C".to_owned(), directory.to_string()]);
        command.extend(args.iter().map(|arg| (*arg).to_owned()));
        Step {
            name: name.to_owned(),
            origin: self.shop.origin(self.locked.recipe.origin.span),
            kind: StepKind::Run(Run {
                args: command,
                // CI: no questions, no progress drawing. The store version check would ask the network.
                env: variables([("CI", "1"), ("npm_config_update_notifier", "false")]),
                workdir: directory.clone(),
                network,
                mounts: vec![mounted(PNPM, self.pnpm), Mount { target: path("/tmp"), kind: MountKind::Tmpfs }],
            }),
        }
    }
}

/// The stage whose `/pnpm-lock.yaml` is the closure of the dependencies, resolved now.
pub(super) fn resolution(shop: &Workshop<'_>, stages: &mut Stages, node: &Node) -> Result<StageId, PlanError> {
    let parts = Parts::new(shop, stages, node)?;
    Ok(match &shop.locked.recipe.origin.value {
        SourceSpec::Release { .. } => release::resolution(&parts, stages),
        SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => {
            source::resolution(&parts, stages)
        }
    })
}

/// The stages that fetch and install, and the steps that put the result into the image.
pub(super) fn build(shop: &Workshop<'_>, stages: &mut Stages, node: &Node) -> Result<Vec<Step>, PlanError> {
    let parts = Parts::new(shop, stages, node)?;
    Ok(match &shop.locked.recipe.origin.value {
        SourceSpec::Release { package, .. } => release::build(&parts, stages, &package.value),
        SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => source::build(&parts, stages),
    })
}

/// What of `node_modules` stays out of the image.
fn omitted(node: &Node) -> Vec<String> {
    let own = node.omit.iter().map(|pattern| pattern.value.clone());
    STATE.iter().map(|state| (*state).to_owned()).chain(own).collect()
}

/// A directory of a stage, copied to where it is in the image.
fn collected(stage: StageId, directory: &ContainerPath, exclude: Vec<String>) -> FileAction {
    let path = directory.to_string();
    FileAction::Copy(Copy { path, into: true, exclude, ..Copy::new(CopyFrom::Stage(stage), directory.clone()) })
}

/// The lock file a step left in `directory`, alone on top of a stage.
fn lock_file(parts: &Parts<'_>, stages: &mut Stages, resolved: StageId, directory: &ContainerPath) -> StageId {
    let copy = Copy {
        path: directory.join("pnpm-lock.yaml").to_string(),
        mode: Some(0o644),
        ..Copy::new(CopyFrom::Stage(resolved), path("/pnpm-lock.yaml"))
    };
    let collect = parts.shop.files("pnpm-lock.yaml", vec![FileAction::Copy(copy)]);
    stages.add(parts.shop.stage("lock file", crate::From::Scratch, vec![collect]))
}
