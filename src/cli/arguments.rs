//! What can be asked.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use oci::Platform;

use super::sources::Sources;

/// Builds production images of the claw AI-agent runtimes, with no daemon.
///
/// `clawbuild openclaw` builds the image of runtimes/openclaw. Targets are recipes by name, `base/NAME`, or paths to a
/// recipe.toml or its directory; a recipe's profiles as `RECIPE:PROFILE`, its agents as `RECIPE@AGENT`.
#[derive(Debug, Parser)]
#[command(
    name = "clawbuild",
    version,
    propagate_version = true,
    subcommand_value_name = "VERB|TARGET",
    max_term_width = 110
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Directory that keeps downloads, layers and step results [env: CLAWBUILD_STORE]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// What runs the steps: auto, embedded, docker or buildkit [env: CLAWBUILD_ENGINE]
    #[arg(long, global = true, value_name = "NAME", value_parser = ["auto", "embedded", "docker", "buildkit"])]
    pub(crate) engine: Option<String>,
    /// A BuildKit to build on: a URL, or the name of a builder that Docker's buildx knows; several make a fleet
    /// [env: BUILDKIT_HOST]
    #[arg(long, global = true, value_name = "URL|NAME[,platform=…]")]
    pub(crate) builder: Vec<String>,
    /// Use no network; fail with the list of what is missing
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Fail if the lock would have to change
    #[arg(long, global = true)]
    pub(crate) locked: bool,
    /// How progress is shown: auto, tty, plain, json or quiet
    #[arg(long, global = true, value_name = "HOW", value_parser = ["auto", "tty", "plain", "json", "quiet"])]
    pub(crate) progress: Option<String>,
    /// Colour: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    pub(crate) color: Option<String>,
    /// How failures are written: text or json
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub(crate) error_format: Option<String>,
    /// Say only what failed
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Also say how things are done
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build images (the default: `clawbuild openclaw`)
    Build(Build),
    /// Look recipes and finished images over for the conventions every image keeps
    Check(Check),
    /// Run built images, and see whether they keep the boot contract
    Test(Test),
    /// Push an image that was built
    Push(Push),
    /// Push what BuildKit needs to build recipes by itself, and record it in clawbuild.lock
    Publish(Publish),
    /// Build the image of clawbuild as a BuildKit frontend
    FrontendImage(FrontendImage),
    /// Join images that several machines built, each for its platform, into one
    Merge(Merge),
    /// Pin every outside input in clawbuild.lock
    Lock(Lock),
    /// Print what would be built, without building
    Graph(Graph),
    /// List the targets there are
    List(List),
    /// Show what a recipe says
    Show(Show),
    /// Look whether this machine can build
    Doctor(Doctor),
    /// See and free what the store holds
    Cache(Cache),
    /// What a BuildKit daemon runs in the frontend's image
    #[command(hide = true)]
    Frontend,
    /// Explain a diagnostic's code
    Explain {
        /// The code, such as recipe/unknown-key
        code: String,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Build {
    /// Recipes by name or path, RECIPE:PROFILE, RECIPE@AGENT (`*` for all), base/NAME
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    pub(crate) targets: Vec<String>,
    /// Every image of every recipe there is
    #[arg(long)]
    pub(crate) all: bool,
    /// Platforms to build for, such as linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Where the image goes: type=oci|docker|local|tar[,dest=PATH] [default: an OCI layout in dist/TARGET]
    #[arg(long, short, value_name = "type=…[,dest=…]")]
    pub(crate) output: Vec<String>,
    /// Push the image to its registry too
    #[arg(long)]
    pub(crate) push: bool,
    /// Push under the digest only and set no tag, for `clawbuild merge`
    #[arg(long, requires = "push")]
    pub(crate) by_digest: bool,
    /// Load the image into Docker too
    #[arg(long)]
    pub(crate) load: bool,
    #[command(flatten)]
    pub(crate) naming: Naming,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Run every step although its result is known
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// How many steps run at a time [default: the number of processors]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
    /// A secret for steps that ask for it: NAME=FILE, or NAME from the variable of that name
    #[arg(long, value_name = "NAME[=FILE]")]
    pub(crate) secret: Vec<String>,
    /// An SSH agent for steps that ask for it: `default`, or ID=SOCKET; without a socket, the one of SSH_AUTH_SOCK
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Take results from a cache: type=registry|local|gha,… (BuildKit engines)
    #[arg(long, value_name = "type=…")]
    pub(crate) cache_from: Vec<String>,
    /// Put results into a cache: type=registry|local|gha,… (BuildKit engines)
    #[arg(long, value_name = "type=…")]
    pub(crate) cache_to: Vec<String>,
    /// How new layers are compressed
    #[arg(long, value_enum, default_value_t = LayerCompression::Gzip)]
    pub(crate) compression: LayerCompression,
    /// Write references and digests to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What an image is called.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Naming {
    /// A name and tag for the image, or just a tag; may be given several times
    #[arg(long = "tag", short, value_name = "[NAME:]TAG")]
    pub(crate) tags: Vec<String>,
    /// Repository to push to, such as ghcr.io/owner/openclaw
    #[arg(long, value_name = "NAME")]
    pub(crate) repository: Option<oci::Repository>,
    /// Speak plain HTTP to registries that are not on this machine, too
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayerCompression {
    /// Every registry and runtime reads it.
    Gzip,
    /// Smaller and faster; Docker 20.10 and older cannot read it.
    Zstd,
    /// Not compressed.
    None,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Check {
    /// Recipes by name, or paths, whose images are looked at too; without any, the text of every recipe
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Look at the text alone, and build nothing
    #[arg(long)]
    pub(crate) recipe_only: bool,
    /// Platforms whose images are looked at, such as linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Test {
    /// Recipes by name, or paths
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    pub(crate) targets: Vec<String>,
    /// Every image of every recipe there is
    #[arg(long)]
    pub(crate) all: bool,
    /// The platform whose image is run [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Let qemu run the image of another architecture; it may take ten times its start period to start
    #[arg(long)]
    pub(crate) allow_emulation: bool,
    /// How many build steps run at a time [default: the number of processors]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Push {
    /// A target built before, or an OCI layout: its directory or archive
    #[arg(value_name = "TARGET|LAYOUT")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) naming: Naming,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Publish {
    /// Recipes by name, or paths
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// What the repositories begin with: NAME/base/node, NAME/packages/openclaw
    #[arg(long, value_name = "NAME")]
    pub(crate) repository: oci::Repository,
    /// Platforms to build on and for, such as linux/amd64,linux/arm64 [default: the recipe's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Speak plain HTTP to registries that are not on this machine, too
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FrontendImage {
    /// The program to put into it [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// The platform the program is for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Where the image goes: type=oci|docker|local|tar[,dest=PATH] [default: an OCI layout in dist/frontend]
    #[arg(long, short, value_name = "type=…[,dest=…]")]
    pub(crate) output: Vec<String>,
    /// Push the image to its registry too
    #[arg(long)]
    pub(crate) push: bool,
    #[command(flatten)]
    pub(crate) naming: Naming,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Merge {
    /// What `--push --by-digest --metadata-file FILE` wrote on each machine
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// A tag for the image; may be given several times [default: those the machines were told]
    #[arg(long = "tag", short, value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Speak plain HTTP to registries that are not on this machine, too
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Lock {
    /// Recipes by name, or paths; all when none is given
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Resolve everything anew, not only what is missing; with a name, only what it names
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) update: Option<String>,
    /// Only say whether the lock is up to date
    #[arg(long, conflicts_with = "update")]
    pub(crate) check: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Graph {
    /// A recipe by name, base/NAME, or a path; several for --format bake
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    /// The platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = GraphFormat::Text)]
    pub(crate) format: GraphFormat,
    /// With --format bake: the frontend's image, for recipes whose first line names none
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) frontend: Option<oci::Reference>,
}

/// What `graph` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// One line for each vertex.
    Text,
    /// The plan: stages and steps.
    Plan,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// The LLB as JSON.
    Json,
    /// An equivalent Dockerfile.
    Dockerfile,
    /// A definition of these targets for `docker buildx bake`.
    Bake,
    /// The LLB definition in protobuf, for buildctl.
    Llb,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct List {
    /// List bases instead of recipes
    #[arg(long)]
    pub(crate) bases: bool,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Show {
    /// A recipe by name, or a path
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Doctor {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) verb: CacheVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Say what the store holds
    Du {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Free space, least recently used first
    Prune {
        /// Everything
        #[arg(long)]
        all: bool,
        /// Keep at most this much, such as 20GB
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_used: Option<u64>,
        /// Leave at least this much of the disk free
        #[arg(long, value_name = "SIZE", value_parser = size)]
        min_free: Option<u64>,
        /// Remove what was not used for this long, such as 7d
        #[arg(long, value_name = "AGE", value_parser = age)]
        max_age: Option<std::time::Duration>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `20GB`, `512MiB`, `1000`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => 0,
    };
    let number = text[..digits].parse::<u64>().ok().filter(|_| unit > 0);
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is not a size: write `20GB` or `512MiB`"))
}

/// `7d`, `12h`, `30m`.
fn age(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let seconds = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => 0,
    };
    let number = text[..digits].parse::<u64>().ok().filter(|_| seconds > 0);
    number
        .and_then(|number| number.checked_mul(seconds))
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is not an age: write `7d` or `12h`"))
}
