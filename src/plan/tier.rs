//! Profiles and agents: the stages between a runtime and the image asked for.
//!
//! Each starts from the finished stage below, so images share every layer of what they have in common, byte for byte. An
//! agent that copies nothing out of stages adds one small layer: its files, its configuration, and what claw-init is told.

use diag::{Source, Span, codes};
use recipe::{Agent, Config, Health, Member, MemberKeys, Profile, Recipe, RecipeError, Roster, Tier};
use serde_json::{Map, Value};

use crate::custom::Custom;
use crate::image::{group, packages_step, passwd, plain_copy, root_file, shipped, volume};
use crate::stage::{Stages, path};
use crate::{
    Build, CopyFrom, DebianLayers, FileAction, From, LockedRecipe, Origin, PlanError, Stage, StageId, Step, StepKind,
    init,
};

/// The file that names the uppermost profile with packages of its own.
const PROFILE: &str = "/etc/claw/profile";

/// What the stages of tiers are made from.
pub(crate) struct Tiers<'a, 'b> {
    pub(crate) locked: &'a LockedRecipe<'a>,
    pub(crate) layers: &'a DebianLayers,
    pub(crate) custom: &'b mut Custom<'a>,
    pub(crate) build: Build,
}

/// One tier, the image it makes and the one it stands on.
struct One<'a> {
    tier: Tier,
    source: &'a Source,
    span: Span,
    additions: &'a recipe::Additions,
    below: &'a Recipe,
    own: &'a Recipe,
    /// The runtime's health.
    health: &'a Health,
}

impl Tiers<'_, '_> {
    /// Adds the stages between the runtime's and the image's. Gives the image's, and a line of history for each step.
    ///
    /// # Errors
    /// As [`crate::Plan::image`].
    pub(crate) fn stages(
        &mut self,
        stages: &mut Stages,
        runtime: StageId,
    ) -> Result<(StageId, Vec<String>), PlanError> {
        let recipe = self.locked.recipe;
        let mut below = recipe.at(&Tier::Runtime);
        let (mut from, mut history) = (runtime, Vec::new());
        let mut add = |stages: &mut Stages, tier: &Tier, steps: Vec<Step>| {
            history.extend(steps.iter().map(|step| step.name.clone()));
            let Build { target, epoch, .. } = self.build;
            let name = recipe.target(tier).to_string();
            from = stages.add(Stage { name, platform: target, epoch, from: From::Stage(from), steps });
        };
        for profile in recipe.profiles_of(&self.locked.tier) {
            let tier = Tier::Profile(profile.name.value.clone());
            let own = recipe.at(&tier);
            let steps =
                profile_steps(self.locked, self.layers, self.custom, self.build, stages, profile, (&below, &own))?;
            add(stages, &tier, steps);
            below = own;
        }
        if let Tier::Agent(name) = &self.locked.tier
            && let Some(agent) = recipe.agent(name)
        {
            let steps = agent_steps(self.locked, self.custom, stages, agent, &below)?;
            add(stages, &self.locked.tier, steps);
        }
        Ok((from, history))
    }
}

fn profile_steps(
    locked: &LockedRecipe<'_>,
    layers: &DebianLayers,
    custom: &mut Custom<'_>,
    build: Build,
    stages: &mut Stages,
    profile: &Profile,
    (below, own): (&Recipe, &Recipe),
) -> Result<Vec<Step>, PlanError> {
    let recipe = locked.recipe;
    let tier = Tier::Profile(profile.name.value.clone());
    let request =
        locked.packages(build.target).into_iter().find(|request| request.owner == recipe.target(&tier).to_string());
    let packages = request.and_then(|request| packages_step(locked, layers, &request));
    let mut actions = Vec::new();
    if packages.is_some() {
        // Packages may bring accounts of their own; the image keeps its user.
        actions.extend([passwd(own), group(own)]);
        // Most packages bring none; so that the layer is never empty, which engines treat differently, it names itself.
        actions.push(root_file(PROFILE, format!("{}\n", profile.name.value)));
    }
    let one = One {
        tier,
        source: &recipe.source,
        span: profile.name.span,
        additions: &profile.additions,
        below,
        own,
        health: &recipe.health,
    };
    let mut steps: Vec<Step> = packages.into_iter().collect();
    steps.extend(one.copies(custom, stages)?);
    steps.extend(one.settings(actions));
    Ok(steps)
}

fn agent_steps(
    locked: &LockedRecipe<'_>,
    custom: &mut Custom<'_>,
    stages: &mut Stages,
    agent: &Agent,
    below: &Recipe,
) -> Result<Vec<Step>, PlanError> {
    let mut actions = Vec::new();
    if let (Some(text), Some(config)) = (&locked.config, &locked.recipe.config) {
        actions.push(FileAction::Write {
            path: init::default_path(config),
            data: text.clone().into_bytes(),
            mode: 0o644,
            owner: (0, 0),
        });
    }
    let one = One {
        tier: locked.tier.clone(),
        source: &agent.source,
        span: agent.name.span,
        additions: &agent.additions,
        below,
        own: &locked.image,
        health: &locked.recipe.health,
    };
    let mut steps = one.copies(custom, stages)?;
    steps.extend(one.settings(actions));
    Ok(steps)
}

impl One<'_> {
    fn origin(&self, span: Span) -> Origin {
        Origin { source: self.source.clone(), span }
    }

    /// What it takes from the recipe's stages, a layer each.
    fn copies(&self, custom: &mut Custom<'_>, stages: &mut Stages) -> Result<Vec<Step>, PlanError> {
        let one = |copy: &recipe::ImageCopy| {
            let from = custom.stage_or_base(stages, &copy.from)?;
            let action = plain_copy(CopyFrom::Stage(from), copy.path.value.as_str(), copy.to.value.clone());
            let name = format!("{} from {}", copy.path.value, copy.from.value);
            Ok(Step { name, origin: self.origin(copy.from.span), kind: StepKind::Files(vec![action]) })
        };
        self.additions.copy.iter().map(one).collect()
    }

    /// The small layer: `actions`, directories, files, links, and what claw-init is told where that changes.
    fn settings(&self, mut actions: Vec<FileAction>) -> Option<Step> {
        actions.extend(self.additions.volumes.iter().map(|path| volume(self.own, &path.value)));
        actions.extend(self.additions.files.iter().map(|file| shipped(self.own, file)));
        for (link, target) in &self.additions.links {
            let path = link.parse().expect("checked when the recipe was read");
            actions.push(FileAction::Symlink { path, target: target.value.clone() });
        }
        let manifest = init::manifest(self.own, self.health);
        if manifest != init::manifest(self.below, self.health) {
            let path = path(init::MANIFEST_PATH);
            actions.push(FileAction::Write { path, data: manifest, mode: 0o644, owner: (0, 0) });
        }
        if actions.is_empty() {
            return None;
        }
        let name = match &self.tier {
            Tier::Runtime => "settings".to_owned(),
            Tier::Profile(name) => format!("profile {name}"),
            Tier::Agent(name) => format!("agent {name}"),
        };
        Some(Step { name, origin: self.origin(self.span), kind: StepKind::Files(actions) })
    }
}

/// The baked default as an agent has it.
///
/// # Errors
/// Something it sets has no place in the default.
pub(crate) fn configured(config: &Config, agent: &Agent, text: &str) -> Result<String, PlanError> {
    let format = config.format.value.as_str();
    let mut text = text.to_owned();
    let refused = |span, why: String| {
        RecipeError::at(codes::recipe::BAD_VALUE, &agent.source, span, why)
            .cause(format!("the default is `{}`", config.file.value))
    };
    for setting in &agent.settings {
        text = render::set(format, &text, &setting.key, &setting.value.value)
            .map_err(|why| refused(setting.value.span, why))?;
    }
    let Some(keys) = &config.members else { return Ok(text) };
    if let (Roster::List { key, .. }, Some(first)) = (&keys.roster, agent.members.first()) {
        let list = agent.members.iter().map(|one| member(keys, one)).collect();
        text = render::set(format, &text, key, &Value::Array(list)).map_err(|why| refused(first.id.span, why))?;
    }
    if let Roster::Table(key) = &keys.roster {
        for one in &agent.members {
            let key: Vec<String> = key.iter().cloned().chain([one.id.value.to_string()]).collect();
            text = render::set(format, &text, &key, &member(keys, one)).map_err(|why| refused(one.id.span, why))?;
        }
    }
    Ok(text)
}

/// One agent of several, in the runtime's own words.
fn member(keys: &MemberKeys, member: &Member) -> Value {
    let texts =
        |texts: &[diag::Spanned<String>]| Value::from(texts.iter().map(|text| text.value.as_str()).collect::<Vec<_>>());
    let mut entry = Map::new();
    if let Roster::List { id, .. } = &keys.roster {
        put(&mut entry, id, member.id.value.as_str().into());
    }
    let optional = [
        (&keys.default, member.is_default.then_some(Value::Bool(true))),
        (&keys.workspace, member.workspace.as_ref().map(|workspace| workspace.value.as_str().into())),
        (&keys.model, member.model.as_ref().map(|model| model.value.as_str().into())),
        (&keys.allow, member.allow.as_deref().map(texts)),
        (&keys.deny, (!member.deny.is_empty()).then(|| texts(&member.deny))),
    ];
    for (key, value) in optional {
        if let (Some(key), Some(value)) = (key, value) {
            put(&mut entry, key, value);
        }
    }
    for setting in &member.settings {
        put(&mut entry, &setting.key, setting.value.value.clone());
    }
    Value::Object(entry)
}

/// Puts a value below a path of keys. What stands in the way is replaced.
fn put(table: &mut Map<String, Value>, key: &[String], value: Value) {
    match key {
        [] => {}
        [last] => drop(table.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let below = table.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}
