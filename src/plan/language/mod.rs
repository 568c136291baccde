//! Languages: each knows how to fetch a program's dependencies, to compile it without network, and what of that goes into
//! the image.

mod esp_idf;
mod go;
mod node;
mod rust;
mod zig;

use std::collections::BTreeMap;

use diag::Spanned;
use oci::Platform;
use recipe::{ContainerPath, Language, Name, Recipe};

use crate::custom::Custom;
use crate::source::SourceTree;
use crate::stage::{Stages, path};
use crate::{
    Copy, CopyFrom, FileAction, From, Ground, LockedRecipe, Mount, MountKind, Origin, PlanError, Run, Stage, StageId,
    Step, StepKind, bases,
};

pub(crate) use esp_idf::plan as firmware;
pub(crate) use node::Manager;
pub use rust::CargoLock;
pub(crate) use rust::{RUST_TARGET_BASE, triple};
pub(crate) use zig::ZigManifest;

/// Where steps put what they made.
const OUT: &str = "/out";

/// Everything a language's stages are planned from.
pub(crate) struct Workshop<'a> {
    pub(crate) locked: &'a LockedRecipe<'a>,
    pub(crate) ground: &'a Ground,
    /// What steps run on.
    pub(crate) build: Platform,
    /// What the image is for.
    pub(crate) target: Platform,
}

/// The base a language's steps run on; none where that is the image's own.
pub(crate) fn toolchain(recipe: &Recipe) -> Option<Spanned<Name>> {
    let build = &recipe.build;
    let own = build.language.value.toolchain().map(|name| {
        let name = name.parse().expect("a name");
        Spanned::new(name, build.language.span)
    });
    build.toolchain.clone().or(own)
}

/// The base whose files a compiler for another platform needs of that platform.
pub(crate) fn target_base(recipe: &Recipe) -> Option<Spanned<Name>> {
    match recipe.build.language.value {
        Language::Rust(_) => Some(Spanned::new(RUST_TARGET_BASE.parse().expect("a name"), recipe.build.language.span)),
        Language::Go(_) | Language::Zig(_) | Language::Node(_) | Language::EspIdf(_) | Language::Custom => None,
    }
}

impl Workshop<'_> {
    /// The steps that put the program into the image, the dependencies first.
    pub(crate) fn build(&self, stages: &mut Stages, custom: &mut Custom<'_>) -> Result<Vec<Step>, PlanError> {
        match &self.locked.recipe.build.language.value {
            Language::Node(node) => node::build(self, stages, node),
            Language::Rust(rust) => {
                self.compiled(stages, custom, rust::EXCLUDE, |stages, source| rust::compile(self, stages, rust, source))
            }
            Language::Go(go) => {
                self.compiled(stages, custom, go::EXCLUDE, |stages, source| Ok(go::compile(self, stages, go, source)))
            }
            Language::Zig(zig) => self
                .compiled(stages, custom, zig::EXCLUDE, |stages, source| Ok(zig::compile(self, stages, zig, source))),
            // Firmware has a plan of its own.
            Language::EspIdf(_) | Language::Custom => Ok(Vec::new()),
        }
    }

    /// The stage whose tree is the language's lock file, at its top; `None` for languages without one.
    pub(crate) fn resolution(&self, stages: &mut Stages) -> Result<Option<StageId>, PlanError> {
        match &self.locked.recipe.build.language.value {
            Language::Node(node) => node::resolution(self, stages, node).map(Some),
            Language::Rust(_) => Ok(Some(self.lock_file_of_source(stages, rust::LOCK_FILE))),
            Language::Zig(_) => Ok(Some(self.lock_file_of_source(stages, zig::MANIFEST))),
            Language::Go(_) | Language::EspIdf(_) | Language::Custom => Ok(None),
        }
    }

    /// The lock file that the source itself brings.
    fn lock_file_of_source(&self, stages: &mut Stages, file: &str) -> StageId {
        let tree = SourceTree::of(stages, self.locked, self.ground, self.build, &[]);
        let part = tree.part(file, &path("/").join(file), self.locked.epoch());
        stages.add(self.stage("lock file", From::Scratch, vec![self.files(file, vec![part])]))
    }

    /// What languages with compilers share: the source, what `compile` makes of it in `/out/bin`, and parts of the source.
    fn compiled(
        &self,
        stages: &mut Stages,
        custom: &mut Custom<'_>,
        exclude: &[&str],
        compile: impl FnOnce(&mut Stages, &Source) -> Result<StageId, PlanError>,
    ) -> Result<Vec<Step>, PlanError> {
        let recipe = self.locked.recipe;
        let tree = SourceTree::of(stages, self.locked, self.ground, self.build, exclude);
        let mut more = Vec::new();
        for copy in &recipe.build.copy {
            let from = custom.stage_or_base(stages, &copy.from)?;
            more.push(FileAction::Copy(Copy {
                path: copy.path.value.to_string(),
                ..Copy::new(CopyFrom::Stage(from), path("/").join(&copy.to.value))
            }));
        }
        let stage = tree.stage(stages, self.locked, self.build, more);
        let made = compile(stages, &Source { tree, stage })?;
        let program = FileAction::Copy(Copy {
            path: format!("{OUT}/bin"),
            into: true,
            ..Copy::new(CopyFrom::Stage(made), path("/usr/local/bin"))
        });
        let mut steps = Vec::new();
        if !recipe.build.place.is_empty() {
            let place = |place: &recipe::PlacedSource| {
                FileAction::Copy(Copy {
                    path: format!("/{}", place.from.value),
                    timestamp: Some(self.locked.epoch().0),
                    ..Copy::new(CopyFrom::Stage(stage), place.to.value.clone())
                })
            };
            steps.push(self.files("files of the source", recipe.build.place.iter().map(place).collect()));
        }
        steps.push(self.files("program", vec![program]));
        Ok(steps)
    }

    /// The toolchain's image.
    fn toolchain(&self) -> From {
        let recipe = self.locked.recipe;
        let name = toolchain(recipe).unwrap_or_else(|| recipe.image.base.clone());
        bases::layout(&self.ground.images, &name.value, self.build, self.origin(name.span))
    }

    /// The step that adds the Debian packages compiling needs, if the recipe names any.
    fn packages(&self) -> Option<Step> {
        let first = self.locked.recipe.build.packages.first()?;
        let request = self.locked.build_packages(self.target)?;
        let manifest = *self.ground.layers.get(&(request.owner.clone(), self.target))?;
        let name = bases::debian_step_name(self.locked.lock, Some(&request));
        let kind = StepKind::Overlay { name: request.owner, manifest };
        Some(Step { name, origin: self.origin(first.span), kind })
    }

    fn origin(&self, span: diag::Span) -> Origin {
        Origin { source: self.locked.recipe.source.clone(), span }
    }

    fn files(&self, name: &str, actions: Vec<FileAction>) -> Step {
        let origin = self.origin(self.locked.recipe.origin.span);
        Step { name: name.to_owned(), origin, kind: StepKind::Files(actions) }
    }

    fn stage(&self, name: &str, from: From, steps: Vec<Step>) -> Stage {
        let name = format!("{} {name}", self.locked.recipe.name.value);
        Stage { name, platform: self.build, epoch: self.locked.epoch(), from, steps }
    }

    fn command(&self, name: &str, command: Command) -> Step {
        let tmp = Mount { target: path("/tmp"), kind: MountKind::Tmpfs };
        let run = Run {
            args: command.args,
            env: command.env.into_iter().chain(self.locked.recipe.build.env.clone()).collect(),
            workdir: command.workdir,
            network: command.network,
            mounts: command.mounts.into_iter().chain([tmp]).collect(),
        };
        let origin = self.origin(self.locked.recipe.build.language.span);
        Step { name: name.to_owned(), origin, kind: StepKind::Run(run) }
    }

    /// A directory kept between builds of this recipe for this platform.
    fn cache(&self, target: &str, what: &str) -> Mount {
        let id = format!("{}/{}/{what}", self.locked.recipe.name.value, self.target.architecture);
        Mount { target: path(target), kind: MountKind::Cache { id } }
    }
}

/// The program's source, as what it is copied from and as a stage.
struct Source {
    tree: SourceTree,
    stage: StageId,
}

impl Source {
    /// All of it, copied into `/source`.
    fn copy(&self) -> FileAction {
        FileAction::Copy(Copy { into: true, ..Copy::new(CopyFrom::Stage(self.stage), path("/source")) })
    }
}

/// A program to run in a stage.
struct Command {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: ContainerPath,
    network: bool,
    mounts: Vec<Mount>,
}

/// A stage's tree, mounted.
fn mounted(target: &str, stage: StageId) -> Mount {
    Mount { target: path(target), kind: MountKind::Stage { stage, path: path("/") } }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn joined(items: &[Spanned<String>], separator: &str) -> String {
    items.iter().map(|item| item.value.as_str()).collect::<Vec<_>>().join(separator)
}
