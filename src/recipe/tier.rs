//! Profiles and agents: images that stand on a recipe's own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use diag::{Source, Spanned};
use serde_json::Value;

use crate::{Config, ContainerPath, Health, HealthProbe, Image, ImageCopy, Name, Override, Recipe, ShippedFile};

/// Which of a recipe's images.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The runtime itself.
    #[default]
    Runtime,
    /// The runtime with a profile's tools.
    Profile(Name),
    /// A runtime or profile with a configuration of its own.
    Agent(Name),
}

/// What one image is called where a user asks for it: `openclaw`, `openclaw:builder`, `openclaw@main`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetName {
    /// The recipe or base.
    pub name: Name,
    /// Which of its images.
    pub tier: Tier,
}

impl TargetName {
    /// The name as one component of a path: `openclaw-builder`. Profiles and agents of a recipe have different names.
    #[must_use]
    pub fn component(&self) -> String {
        match &self.tier {
            Tier::Runtime => self.name.to_string(),
            Tier::Profile(tier) | Tier::Agent(tier) => format!("{}-{tier}", self.name),
        }
    }
}

impl From<Name> for TargetName {
    fn from(name: Name) -> Self {
        Self { name, tier: Tier::Runtime }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tier {
            Tier::Runtime => write!(f, "{}", self.name),
            Tier::Profile(tier) => write!(f, "{}:{tier}", self.name),
            Tier::Agent(tier) => write!(f, "{}@{tier}", self.name),
        }
    }
}

/// How the images of a recipe's tiers are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Naming {
    /// `openclaw`, `openclaw-builder`, `openclaw-main`.
    #[default]
    Plain,
    /// `openclaw-agent-base`, `openclaw-agent-builder`, `openclaw-agent-main`.
    Agent,
}

impl Naming {
    /// What follows the repository of the runtime in a tier's.
    #[must_use]
    pub fn suffix(self, tier: &Tier) -> String {
        match (self, tier) {
            (Self::Plain, Tier::Runtime) => String::new(),
            (Self::Agent, Tier::Runtime) => "-agent-base".to_owned(),
            (Self::Plain, Tier::Profile(name) | Tier::Agent(name)) => format!("-{name}"),
            (Self::Agent, Tier::Profile(name) | Tier::Agent(name)) => format!("-agent-{name}"),
        }
    }
}

/// What a profile or an agent adds to the image it stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Arguments after the command's.
    pub args: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// TCP ports.
    pub ports: Vec<Spanned<u16>>,
    /// Paths that keep data.
    pub volumes: Vec<Spanned<ContainerPath>>,
    /// Paths that must be writable but keep nothing.
    pub tmpfs: Vec<Spanned<ContainerPath>>,
    /// Files beside the recipe.
    pub files: Vec<ShippedFile>,
    /// What to take from the recipe's stages.
    pub copy: Vec<ImageCopy>,
    /// Symbolic links, path to target.
    pub links: BTreeMap<String, Spanned<String>>,
}

/// Tools for a kind of work, for any number of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: Spanned<Name>,
    /// One line about it.
    pub summary: String,
    /// The profile it stands on; the runtime when absent.
    pub from: Option<Spanned<Name>>,
    /// Debian packages it adds.
    pub packages: Vec<Spanned<String>>,
    /// What else it adds.
    pub additions: Additions,
}

/// A configuration of the runtime: one agent, or several that share a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The file it stands in: the recipe, or one of its own.
    pub source: Source,
    /// Its name.
    pub name: Spanned<Name>,
    /// One line about it.
    pub summary: String,
    /// The profile it stands on; the runtime when absent.
    pub profile: Option<Spanned<Name>>,
    /// What it adds to the image.
    pub additions: Additions,
    /// What it sets in the baked default of the configuration, in the order written.
    pub settings: Vec<Setting>,
    /// Agents that share the gateway, in the order written.
    pub members: Vec<Member>,
    /// Overrides beyond the recipe's.
    pub overrides: BTreeMap<String, Override>,
    /// Programs that run beside the recipe's command, in the order written.
    pub processes: Vec<Process>,
    /// Those of them that must be ready before the recipe's command starts.
    pub after: Vec<Spanned<Name>>,
    /// How health is told, where not as the recipe has it.
    pub health: Option<Health>,
}

/// A value in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it goes.
    pub key: Vec<String>,
    /// What it is.
    pub value: Spanned<Value>,
}

/// One of several agents in a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, unique in the gateway.
    pub id: Spanned<Name>,
    /// Whether it answers what names no agent.
    pub is_default: bool,
    /// Where it works.
    pub workspace: Option<Spanned<ContainerPath>>,
    /// The model it uses.
    pub model: Option<Spanned<String>>,
    /// Tools it may use; all that are not denied when absent.
    pub allow: Option<Vec<Spanned<String>>>,
    /// Tools it may not use.
    pub deny: Vec<Spanned<String>>,
    /// What else the runtime's configuration says of it.
    pub settings: Vec<Setting>,
}

/// Where the runtime's configuration has its agents, and what it calls what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberKeys {
    /// Where they are.
    pub roster: Roster,
    /// Whether it is the default, in an agent's entry; so with the others.
    pub default: Option<Vec<String>>,
    /// The workspace.
    pub workspace: Option<Vec<String>>,
    /// The model.
    pub model: Option<Vec<String>>,
    /// Tools allowed.
    pub allow: Option<Vec<String>>,
    /// Tools denied.
    pub deny: Option<Vec<String>>,
}

/// How a configuration lists agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roster {
    /// A table, by id.
    Table(Vec<String>),
    /// A list.
    List {
        /// Where it is.
        key: Vec<String>,
        /// The id, in an entry.
        id: Vec<String>,
    },
}

/// A program that runs beside the recipe's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name, which its lines of output begin with.
    pub name: Spanned<Name>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of its own.
    pub env: BTreeMap<String, String>,
    /// The directory it starts in; the image's when absent.
    pub workdir: Option<ContainerPath>,
    /// When it is started again.
    pub restart: Restart,
    /// Processes that must be ready before it starts; the recipe's command goes by the recipe's name.
    pub after: Vec<Spanned<Name>>,
    /// What those that come after it wait for.
    pub ready: Ready,
    /// What is asked of it when the container's health is, and how long that may take.
    pub health: Option<(HealthProbe, Duration)>,
}

/// When a process is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Restart {
    /// However it ended.
    Always,
    /// When its status was not 0, or a signal ended it.
    OnFailure,
    /// Not at all.
    Never,
}

impl Restart {
    /// The word recipes and claw-init use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

/// When those that come after a process may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It was started.
    Started,
    /// It ended with status 0.
    Completed,
    /// A probe succeeds.
    Probe {
        /// What is asked.
        probe: HealthProbe,
        /// How long it may take until it succeeds.
        within: Duration,
    },
}

impl Recipe {
    /// The profile of this name.
    #[must_use]
    pub fn profile(&self, name: &Name) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name.value == *name)
    }

    /// The agent of this name.
    #[must_use]
    pub fn agent(&self, name: &Name) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name.value == *name)
    }

    /// Every image the recipe has, the runtime's first.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> {
        let profiles = self.profiles.iter().map(|profile| Tier::Profile(profile.name.value.clone()));
        let agents = self.agents.iter().map(|agent| Tier::Agent(agent.name.value.clone()));
        [Tier::Runtime].into_iter().chain(profiles).chain(agents)
    }

    /// Whether the recipe has the tier.
    #[must_use]
    pub fn has(&self, tier: &Tier) -> bool {
        match tier {
            Tier::Runtime => true,
            Tier::Profile(name) => self.profile(name).is_some(),
            Tier::Agent(name) => self.agent(name).is_some(),
        }
    }

    /// The profiles a tier stands on, its own included, lowest first.
    #[must_use]
    pub fn profiles_of(&self, tier: &Tier) -> Vec<&Profile> {
        let mut next = match tier {
            Tier::Runtime => None,
            Tier::Profile(name) => Some(name),
            Tier::Agent(name) => {
                self.agent(name).and_then(|agent| agent.profile.as_ref()).map(|profile| &profile.value)
            }
        };
        let mut chain: Vec<&Profile> = Vec::new();
        while let Some(profile) = next.and_then(|name| self.profile(name)) {
            chain.insert(0, profile);
            next = profile.from.as_ref().map(|from| &from.value);
        }
        chain
    }

    /// One line about a tier's image.
    #[must_use]
    pub fn summary_of(&self, tier: &Tier) -> &str {
        let own = match tier {
            Tier::Runtime => None,
            Tier::Profile(name) => self.profile(name).map(|profile| &profile.summary),
            Tier::Agent(name) => self.agent(name).map(|agent| &agent.summary),
        };
        own.unwrap_or(&self.summary)
    }

    /// What a tier's image is called.
    #[must_use]
    pub fn target(&self, tier: &Tier) -> TargetName {
        TargetName { name: self.name.value.clone(), tier: tier.clone() }
    }

    /// The configuration, where a tier changes its baked default.
    #[must_use]
    pub fn changed_config(&self, tier: &Tier) -> Option<&Config> {
        let Tier::Agent(name) = tier else { return None };
        let agent = self.agent(name)?;
        let is_changed = !agent.settings.is_empty() || !agent.members.is_empty();
        self.config.as_ref().filter(|_| is_changed)
    }

    /// The recipe as a tier's image has it: with all that the profiles and the agent add. It has no tiers itself.
    #[must_use]
    pub fn at(&self, tier: &Tier) -> Self {
        let mut recipe = Self { profiles: Vec::new(), agents: Vec::new(), ..self.clone() };
        for profile in self.profiles_of(tier) {
            recipe.summary.clone_from(&profile.summary);
            recipe.image.packages.extend(profile.packages.iter().cloned());
            recipe.image.add(&profile.additions);
        }
        if let Tier::Agent(name) = tier
            && let Some(agent) = self.agent(name)
        {
            recipe.summary.clone_from(&agent.summary);
            recipe.image.add(&agent.additions);
            recipe.image.processes.clone_from(&agent.processes);
            recipe.image.after.clone_from(&agent.after);
            if let Some(config) = &mut recipe.config {
                config.overrides.extend(agent.overrides.clone());
            }
            if let Some(health) = &agent.health {
                recipe.health = health.clone();
            }
        }
        recipe
    }
}

impl Image {
    fn add(&mut self, more: &Additions) {
        self.command.extend(more.args.iter().cloned());
        self.env.extend(more.env.clone());
        self.ports.extend(more.ports.iter().cloned());
        self.volumes.extend(more.volumes.iter().cloned());
        self.tmpfs.extend(more.tmpfs.iter().cloned());
        self.files.extend(more.files.iter().cloned());
        self.copy.extend(more.copy.iter().cloned());
        self.links.extend(more.links.clone());
    }
}
