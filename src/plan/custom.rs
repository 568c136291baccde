//! Stages a recipe writes out itself.

use std::collections::BTreeMap;

use diag::{Source, Spanned, codes, did_you_mean};
use oci::Platform;
use recipe::{ImageCopy, Name, Recipe, RecipeError, StageFrom, StageStep, Tier};

use crate::source::SourceTree;
use crate::stage::{Stages, path};
use crate::{
    Copy, CopyFrom, Epoch, FileAction, From, Ground, LockedRecipe, Mount, MountKind, Origin, PlanError, Project, Run,
    Stage, StageId, Step, StepKind, bases,
};

/// The bases that stages start from or that something is copied from into a tier's image: names the recipe does not
/// define as stages are bases. One may come several times.
pub(crate) fn bases_of(recipe: &Recipe, tier: &Tier) -> Vec<Spanned<Name>> {
    let mut names = Vec::new();
    for stage in &recipe.stages {
        match &stage.from.value {
            StageFrom::Named(name) => names.push(Spanned::new(name.clone(), stage.from.span)),
            StageFrom::Scratch | StageFrom::Image(_) => {}
        }
        names.extend(stage.steps.iter().filter_map(|step| match &step.kind.value {
            recipe::StepKind::Copy { from, .. } => from.clone(),
            _ => None,
        }));
    }
    // An agent's may stand in a file of its own.
    let place = |source: &Source, copy: &ImageCopy| match *source == recipe.source {
        true => copy.from.clone(),
        false => Spanned::new(copy.from.value.clone(), recipe.image.base.span),
    };
    names.extend(copies_of(recipe, tier).map(|(source, copy)| place(source, copy)));
    names.extend(recipe.build.copy.iter().map(|copy| copy.from.clone()));
    names.retain(|name| find(recipe, &name.value).is_none());
    names
}

/// What the image of a tier takes from stages and bases, and where that is written.
fn copies_of<'a>(recipe: &'a Recipe, tier: &Tier) -> impl Iterator<Item = (&'a Source, &'a ImageCopy)> {
    let profiles = recipe.profiles_of(tier).into_iter().flat_map(|profile| &profile.additions.copy);
    let agent = match tier {
        Tier::Runtime | Tier::Profile(_) => None,
        Tier::Agent(name) => recipe.agent(name),
    };
    let own = recipe.image.copy.iter().chain(profiles).map(|copy| (&recipe.source, copy));
    own.chain(agent.into_iter().flat_map(|agent| agent.additions.copy.iter().map(|copy| (&agent.source, copy))))
}

fn find<'a>(recipe: &'a Recipe, name: &Name) -> Option<&'a recipe::Stage> {
    recipe.stages.iter().find(|stage| stage.name.value == *name)
}

/// Checks the stages without planning them, so that mistakes are told before anything is fetched: every name is a stage
/// or a base, nothing stands on itself, and nothing runs where there are no files.
///
/// # Errors
/// The first mistake.
pub(crate) fn check(recipe: &Recipe, project: &Project) -> Result<(), PlanError> {
    let mut checked = Vec::new();
    for stage in &recipe.stages {
        check_stage(recipe, project, &stage.name, &mut Vec::new(), &mut checked)?;
    }
    for copy in &recipe.build.copy {
        check_stage(recipe, project, &copy.from, &mut Vec::new(), &mut checked)?;
    }
    let tiers: Vec<Tier> = recipe.tiers().collect();
    for (source, copy) in tiers.iter().flat_map(|tier| copies_of(recipe, tier)) {
        if find(recipe, &copy.from.value).is_none() && project.base(&copy.from.value).is_none() {
            return Err(unknown(recipe, source, project, &copy.from).into());
        }
        check_stage(recipe, project, &copy.from, &mut Vec::new(), &mut checked)?;
    }
    Ok(())
}

/// `open` holds the stages that led here, outermost first; `checked` those that are known to be right.
fn check_stage(
    recipe: &Recipe,
    project: &Project,
    asked: &Spanned<Name>,
    open: &mut Vec<Name>,
    checked: &mut Vec<Name>,
) -> Result<(), PlanError> {
    if checked.contains(&asked.value) {
        return Ok(());
    }
    let Some(stage) = find(recipe, &asked.value) else {
        return match project.base(&asked.value) {
            Some(_) => Ok(()),
            None => Err(unknown(recipe, &recipe.source, project, asked).into()),
        };
    };
    if let Some(start) = open.iter().position(|name| *name == asked.value) {
        let circle: Vec<&str> = open[start..].iter().chain([&asked.value]).map(Name::as_str).collect();
        let message = format!("stages stand on each other: {}", circle.join(" -> "));
        return Err(RecipeError::at(codes::recipe::CYCLE, &recipe.source, asked.span, message)
            .mark("the circle closes here")
            .help("let one of them start from a base or from `scratch`")
            .into());
    }
    open.push(asked.value.clone());
    if let StageFrom::Named(name) = &stage.from.value {
        check_stage(recipe, project, &Spanned::new(name.clone(), stage.from.span), open, checked)?;
    }
    for (number, step) in stage.steps.iter().enumerate() {
        match &step.kind.value {
            recipe::StepKind::Copy { from: Some(from), .. } => check_stage(recipe, project, from, open, checked)?,
            recipe::StepKind::Run { .. } if number == 0 && stage.from.value == StageFrom::Scratch => {
                let message = "nothing can run in an empty stage";
                return Err(RecipeError::at(codes::recipe::BAD_VALUE, &recipe.source, step.kind.span, message)
                    .help("start the stage from a base, or copy the program in first")
                    .into());
            }
            _ => {}
        }
    }
    open.pop();
    checked.push(asked.value.clone());
    Ok(())
}

fn unknown(recipe: &Recipe, source: &Source, project: &Project, asked: &Spanned<Name>) -> RecipeError {
    let names: Vec<&str> = recipe.stages.iter().map(|stage| stage.name.value.as_str()).collect();
    let bases: Vec<&str> = project.bases().map(|base| base.name.value.as_str()).collect();
    let message = format!("stage `{}` is not defined", asked.value);
    let error = RecipeError::at(codes::recipe::UNKNOWN_STAGE, source, asked.span, message);
    match did_you_mean(asked.value.as_str(), names.iter().chain(&bases).copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if names.is_empty() => error.help("define it as `[stages.NAME]`"),
        None => error.help(format!("stages defined: {}; bases: {}", names.join(", "), bases.join(", "))),
    }
}

/// The custom stages of one recipe, planned as they are asked for.
pub(crate) struct Custom<'a> {
    locked: &'a LockedRecipe<'a>,
    ground: &'a Ground,
    platform: Platform,
    epoch: Epoch,
    done: BTreeMap<Name, StageId>,
}

impl<'a> Custom<'a> {
    pub(crate) fn new(locked: &'a LockedRecipe<'a>, ground: &'a Ground, platform: Platform, epoch: Epoch) -> Self {
        Self { locked, ground, platform, epoch, done: BTreeMap::new() }
    }

    /// Plans every stage, used or not.
    pub(crate) fn all(&mut self, stages: &mut Stages) -> Result<(), PlanError> {
        for stage in &self.locked.recipe.stages {
            self.stage(stages, &stage.name)?;
        }
        Ok(())
    }

    /// The stage of this name, planned if it was not yet.
    pub(crate) fn stage(&mut self, stages: &mut Stages, asked: &Spanned<Name>) -> Result<StageId, PlanError> {
        if let Some(done) = self.done.get(&asked.value) {
            return Ok(*done);
        }
        let recipe = self.locked.recipe;
        let stage = find(recipe, &asked.value).expect("stages are checked with the recipe's requests");
        let from = match &stage.from.value {
            StageFrom::Scratch => From::Scratch,
            StageFrom::Image(reference) => {
                From::Image { reference: reference.clone(), origin: self.origin(stage.from.span) }
            }
            StageFrom::Named(name) => {
                let named = Spanned::new(name.clone(), stage.from.span);
                if find(recipe, name).is_some() { From::Stage(self.stage(stages, &named)?) } else { self.base(&named) }
            }
        };
        let mut steps = Vec::new();
        for step in &stage.steps {
            steps.push(self.step(stages, step)?);
        }
        let name = format!("{} {}", recipe.name.value, asked.value);
        let id = stages.add(Stage { name, platform: self.platform, epoch: self.epoch, from, steps });
        self.done.insert(asked.value.clone(), id);
        Ok(id)
    }

    fn base(&self, name: &Spanned<Name>) -> From {
        bases::layout(&self.ground.images, &name.value, self.platform, self.origin(name.span))
    }

    fn origin(&self, span: diag::Span) -> Origin {
        Origin { source: self.locked.recipe.source.clone(), span }
    }

    fn step(&mut self, stages: &mut Stages, step: &StageStep) -> Result<Step, PlanError> {
        let (name, kind) = match &step.kind.value {
            recipe::StepKind::Run { args, env, workdir, network, cache, secrets } => {
                let caches = cache.iter().map(|path| Mount {
                    target: path.value.clone(),
                    kind: MountKind::Cache { id: format!("{}{}", self.locked.recipe.name.value, path.value) },
                });
                let secrets = secrets.iter().map(|name| Mount {
                    target: path("/run/secrets").join(name.value.as_str()),
                    kind: MountKind::Secret { id: name.value.to_string(), optional: false },
                });
                let tmp = Mount { target: path("/tmp"), kind: MountKind::Tmpfs };
                let run = Run {
                    args: args.clone(),
                    env: env.clone(),
                    workdir: workdir.clone().unwrap_or_else(|| path("/")),
                    network: *network,
                    mounts: [tmp].into_iter().chain(caches).chain(secrets).collect(),
                };
                (args.join(" "), StepKind::Run(run))
            }
            recipe::StepKind::Copy { from, paths, to, owner, mode, exclude } => {
                let (source, root) = match from {
                    Some(name) => (CopyFrom::Stage(self.stage_or_base(stages, name)?), "/".to_owned()),
                    None => {
                        let patterns = context_patterns(paths);
                        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
                        let tree = SourceTree::of(stages, self.locked, self.ground, self.platform, &[]);
                        tree.only(&patterns).into_parts()
                    }
                };
                let copies = paths.iter().map(|from_path| {
                    FileAction::Copy(Copy {
                        path: format!(
                            "{}/{}",
                            root.trim_end_matches('/'),
                            from_path.value.trim_start_matches("./").trim_start_matches('/').trim_end_matches("/.")
                        ),
                        into: paths.len() > 1 || matches!(from_path.value.as_str(), "." | "./" | "/"),
                        owner: owner.unwrap_or((0, 0)),
                        mode: *mode,
                        exclude: exclude.iter().map(|pattern| pattern.value.clone()).collect(),
                        ..Copy::new(source.clone(), to.value.clone())
                    })
                });
                let list: Vec<&str> = paths.iter().map(|path| path.value.as_str()).collect();
                (format!("copy {} {}", list.join(" "), to.value), StepKind::Files(copies.collect()))
            }
            recipe::StepKind::Write { path, text, mode } => {
                let action = FileAction::Write {
                    path: path.value.clone(),
                    data: text.clone().into_bytes(),
                    mode: *mode,
                    owner: (0, 0),
                };
                (format!("write {}", path.value), StepKind::Files(vec![action]))
            }
            recipe::StepKind::Directory { path, mode } => {
                let action = FileAction::Directory { path: path.value.clone(), mode: *mode, owner: (0, 0) };
                (format!("directory {}", path.value), StepKind::Files(vec![action]))
            }
            recipe::StepKind::Symlink { path, target } => {
                let action = FileAction::Symlink { path: path.value.clone(), target: target.clone() };
                (format!("symlink {}", path.value), StepKind::Files(vec![action]))
            }
            recipe::StepKind::Remove { path } => {
                let action = FileAction::Remove { path: path.value.clone() };
                (format!("remove {}", path.value), StepKind::Files(vec![action]))
            }
        };
        Ok(Step { name, origin: self.origin(step.kind.span), kind })
    }

    /// A stage, or a base as one where no stage has the name.
    pub(crate) fn stage_or_base(&mut self, stages: &mut Stages, name: &Spanned<Name>) -> Result<StageId, PlanError> {
        if find(self.locked.recipe, &name.value).is_some() {
            return self.stage(stages, name);
        }
        let from = self.base(name);
        let name = format!("base/{}", name.value);
        Ok(stages.add(Stage { name, platform: self.platform, epoch: self.epoch, from, steps: Vec::new() }))
    }
}

/// Only what is copied needs to be looked at; a path with wildcards, or the whole source, needs everything.
fn context_patterns(paths: &[Spanned<String>]) -> Vec<String> {
    let plain =
        |path: &str| !path.contains(['*', '?', '[', '\\']) && !matches!(path.trim_end_matches('/'), "" | "." | "./.");
    if paths.iter().all(|path| plain(&path.value)) {
        paths.iter().map(|path| path.value.trim_start_matches("./").trim_matches('/').to_owned()).collect()
    } else {
        Vec::new()
    }
}
