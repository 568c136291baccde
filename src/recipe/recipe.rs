//! What a recipe says.

use std::collections::BTreeMap;
use std::time::Duration;

use diag::{Source, Spanned};
use oci::{Platform, Reference, Repository};

use crate::{Agent, Build, ContainerPath, Contract, MemberKeys, Name, Naming, Process, Profile, SourceSpec};

/// One runtime, as its `recipe.toml` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The file it was read from.
    pub source: Source,
    /// The runtime's name, which is also the target's.
    pub name: Spanned<Name>,
    /// One line about it.
    pub summary: String,
    /// An SPDX licence expression.
    pub license: Spanned<String>,
    /// Why it is locked only once it is named, and not with everything else; most recipes are.
    pub deferred: Option<String>,
    /// Where its people live.
    pub homepage: Option<String>,
    /// Where the program comes from.
    pub origin: Spanned<SourceSpec>,
    /// How it is built.
    pub build: Build,
    /// Stages the recipe writes out itself, in the order written.
    pub stages: Vec<Stage>,
    /// The image it becomes.
    pub image: Image,
    /// How its health is told.
    pub health: Health,
    /// Its configuration file.
    pub config: Option<Config>,
    /// What of the boot contract cannot hold.
    pub contract: Contract,
    /// What it is built for.
    pub platforms: Vec<Spanned<Platform>>,
    /// Profiles, in the order written.
    pub profiles: Vec<Profile>,
    /// Agents: the recipe's in the order written, then those of files of their own.
    pub agents: Vec<Agent>,
}

/// A stage written out in the recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: Spanned<Name>,
    /// What it starts from.
    pub from: Spanned<StageFrom>,
    /// What it does, in order.
    pub steps: Vec<StageStep>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageFrom {
    /// Nothing.
    Scratch,
    /// A stage or base of this name; stages hide bases.
    Named(Name),
    /// An image in a registry, by digest.
    Image(Reference),
}

/// One step of a stage. Each makes one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageStep {
    /// What is done, with the place of the whole step.
    pub kind: Spanned<StepKind>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Runs a program.
    Run {
        /// The program and its arguments; no shell unless it is named.
        args: Vec<String>,
        /// Variables, added to the stage's defaults.
        env: BTreeMap<String, String>,
        /// The working directory.
        workdir: Option<ContainerPath>,
        /// Whether it may use the network.
        network: bool,
        /// Directories kept between builds, by path.
        cache: Vec<Spanned<ContainerPath>>,
        /// Secrets, by name, mounted at `/run/secrets/NAME`.
        secrets: Vec<Spanned<Name>>,
    },
    /// Copies files.
    Copy {
        /// From a stage; from the recipe's source directory when absent.
        from: Option<Spanned<Name>>,
        /// What, relative to the source's root; globs.
        paths: Vec<Spanned<String>>,
        /// Where to.
        to: Spanned<ContainerPath>,
        /// `uid:gid` of the copies; 0:0 when absent.
        owner: Option<(u32, u32)>,
        /// Mode of the copies; as they are when absent.
        mode: Option<u32>,
        /// Patterns of what is left out.
        exclude: Vec<Spanned<String>>,
    },
    /// Writes a file.
    Write {
        /// Where.
        path: Spanned<ContainerPath>,
        /// What.
        text: String,
        /// Its mode.
        mode: u32,
    },
    /// Makes a directory and those above it.
    Directory {
        /// Where.
        path: Spanned<ContainerPath>,
        /// Its mode.
        mode: u32,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where the link lies.
        path: Spanned<ContainerPath>,
        /// What it says.
        target: String,
    },
    /// Removes a file or tree.
    Remove {
        /// What; globs.
        path: Spanned<ContainerPath>,
    },
}

/// The image a recipe becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is pushed when nothing else is said.
    pub repository: Option<Spanned<Repository>>,
    /// How the images of its tiers are called.
    pub naming: Naming,
    /// The base it stands on.
    pub base: Spanned<Name>,
    /// Debian packages it needs beyond the base's.
    pub packages: Vec<Spanned<String>>,
    /// Who its processes run as.
    pub user: User,
    /// The working directory.
    pub workdir: ContainerPath,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// TCP ports it listens on.
    pub ports: Vec<Spanned<u16>>,
    /// Paths that keep data.
    pub volumes: Vec<Spanned<ContainerPath>>,
    /// Paths that must be writable but keep nothing.
    pub tmpfs: Vec<Spanned<ContainerPath>>,
    /// The signal that asks it to stop.
    pub stop_signal: String,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
    /// Files beside the recipe to put into the image.
    pub files: Vec<ShippedFile>,
    /// What to take from the recipe's own stages.
    pub copy: Vec<ImageCopy>,
    /// Symbolic links, path to target.
    pub links: BTreeMap<String, Spanned<String>>,
    /// Programs that run beside the command: an agent's.
    pub processes: Vec<Process>,
    /// Those of them that must be ready before the command starts.
    pub after: Vec<Spanned<Name>>,
}

/// A non-root user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: Name,
    /// User id, not 0.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory, owned by the user.
    pub home: ContainerPath,
}

/// A file beside the recipe that goes into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShippedFile {
    /// Relative to the recipe's directory.
    pub from: Spanned<String>,
    /// Where in the image.
    pub to: Spanned<ContainerPath>,
    /// Its mode; as it is when absent.
    pub mode: Option<u32>,
}

/// Something a stage made that goes into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCopy {
    /// The stage.
    pub from: Spanned<Name>,
    /// What.
    pub path: Spanned<ContainerPath>,
    /// Where to.
    pub to: Spanned<ContainerPath>,
}

/// How health is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: HealthProbe,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Time one probe may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// What is asked about health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// `GET` gives a 2xx status.
    Http {
        /// The port, on the container's loopback.
        port: u16,
        /// The variable that changes it, if one does.
        port_env: Option<String>,
        /// The path.
        path: String,
    },
    /// A program ends with status 0.
    Exec(Vec<String>),
    /// The runtime cannot tell.
    None,
}

/// The runtime's configuration file: a baked default, overridden at the start onto a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The default, beside the recipe.
    pub file: Spanned<String>,
    /// Where the runtime reads it.
    pub path: Spanned<ContainerPath>,
    /// Its format.
    pub format: Spanned<ConfigFormat>,
    /// Overrides by variable.
    pub overrides: BTreeMap<String, Override>,
    /// Where agents that share a process are listed in it.
    pub members: Option<MemberKeys>,
}

/// A configuration format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigFormat {
    /// JSON.
    Json,
    /// JSON5.
    Json5,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// `NAME=value` lines.
    Env,
}

impl ConfigFormat {
    /// The word recipes and claw-init use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Json5 => "json5",
            Self::Toml => "toml",
            Self::Yaml => "yaml",
            Self::Env => "env",
        }
    }
}

/// One variable that changes the configuration, or that the runtime itself reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Where in the file its value goes; empty when the runtime reads the variable itself.
    pub key: Vec<String>,
    /// What its value is.
    pub kind: OverrideType,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// A value the runtime works with, other than the default, for tests. None of a secret.
    pub example: Option<Spanned<String>>,
    /// What it is for.
    pub doc: String,
}

/// The type of an override's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Comma-separated texts.
    List,
    /// A JSON value.
    Json,
}

impl OverrideType {
    /// The word recipes and claw-init use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::Json => "json",
        }
    }
}
