//! How a recipe's program is built.

use std::collections::BTreeMap;

use diag::Spanned;
use semver::Version;

use crate::{ContainerPath, Name, Recipe, SourceSpec};

/// How the program is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The language, which decides the stages.
    pub language: Spanned<Language>,
    /// Versions of tools the toolchain or the base must bring, by tool.
    pub requires: BTreeMap<String, Spanned<String>>,
    /// The base that steps run on, where it is not the language's own.
    pub toolchain: Option<Spanned<Name>>,
    /// Debian packages compiling needs beyond the toolchain's: libraries and headers, of the image's platform.
    pub packages: Vec<Spanned<String>>,
    /// Variables for the compiler and the scripts it runs.
    pub env: BTreeMap<String, String>,
    /// What stages made that belongs into the source before it is compiled.
    pub copy: Vec<SourceCopy>,
    /// What of the source goes into the image beside the program.
    pub place: Vec<Place>,
}

/// Something a stage made that goes into the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCopy {
    /// The stage.
    pub from: Spanned<Name>,
    /// What.
    pub path: Spanned<ContainerPath>,
    /// Where to, relative to the source's root.
    pub to: Spanned<String>,
}

/// A part of the source that goes into the image as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Relative to the source's root.
    pub from: Spanned<String>,
    /// Where in the image.
    pub to: Spanned<ContainerPath>,
}

/// A way to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Language {
    /// Node.js with pnpm.
    Node(Node),
    /// Rust with cargo.
    Rust(Rust),
    /// Go.
    Go(Go),
    /// Zig.
    Zig(Zig),
    /// Firmware, with ESP-IDF.
    EspIdf(EspIdf),
    /// Only the stages the recipe writes out.
    Custom,
}

impl Language {
    /// Every file that [`Recipe::lock_file`] may name.
    pub const LOCK_FILES: [&str; 3] = ["pnpm-lock.yaml", "Cargo.lock", "build.zig.zon"];

    /// The word recipes use.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Rust(_) => "rust",
            Self::Go(_) => "go",
            Self::Zig(_) => "zig",
            Self::EspIdf(_) => "esp-idf",
            Self::Custom => "custom",
        }
    }

    /// The file in which the language's package manager pins dependencies.
    const fn lock_file(&self) -> Option<&'static str> {
        match self {
            Self::Node(_) => Some("pnpm-lock.yaml"),
            Self::Rust(_) => Some("Cargo.lock"),
            // It names dependencies by hash, so it is manifest and lock in one.
            Self::Zig(_) => Some("build.zig.zon"),
            // go.mod and go.sum are one with the source, and so is dependencies.lock.
            Self::Go(_) | Self::EspIdf(_) | Self::Custom => None,
        }
    }

    /// The base that steps run on unless the recipe names another; the image's own where there is none.
    #[must_use]
    pub const fn toolchain(&self) -> Option<&'static str> {
        match self {
            Self::Rust(_) => Some("rust"),
            Self::Go(_) => Some("go"),
            Self::Zig(_) => Some("zig"),
            Self::EspIdf(_) => Some("esp-idf"),
            Self::Node(_) | Self::Custom => None,
        }
    }
}

impl Recipe {
    /// Whether it is firmware: its image holds files for a device, and is not run.
    #[must_use]
    pub const fn is_firmware(&self) -> bool {
        matches!(self.build.language.value, Language::EspIdf(_))
    }

    /// The file in which the language's package manager pins the program's dependencies, where clawbuild reads it before
    /// a build.
    #[must_use]
    pub const fn lock_file(&self) -> Option<&'static str> {
        match (&self.origin.value, &self.build.language.value) {
            // pnpm reads the source's own, which the commit or the checksum pins.
            (SourceSpec::Git { .. } | SourceSpec::Archive { .. }, Language::Node(_)) => None,
            (_, language) => language.lock_file(),
        }
    }
}

/// Node.js programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Packages whose install scripts run.
    pub scripts: Vec<Spanned<String>>,
    /// Packages whose install scripts do not; one that is in neither list fails the build.
    pub without_scripts: Vec<Spanned<String>>,
    /// Optional dependencies that are not installed, as globs.
    pub skip: Vec<Spanned<String>>,
    /// `package.json` scripts to run after the install, for sources with a build step.
    pub run: Vec<Spanned<String>>,
    /// Paths below `node_modules` the image does without, as globs.
    pub omit: Vec<Spanned<String>>,
    /// Where the program goes in the image.
    pub prefix: ContainerPath,
    /// The pnpm to install with, where it is not the base's own: the source's `packageManager` asks for one version.
    pub pnpm: Option<Spanned<Version>>,
    /// Paths of the source that do not go into the image, as patterns relative to its root.
    pub exclude: Vec<Spanned<String>>,
}

/// Rust programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rust {
    /// Workspace members to build; the root's default when empty.
    pub members: Vec<Spanned<String>>,
    /// Programs to build and put into the image; every one of the members when empty.
    pub bins: Vec<Spanned<String>>,
    /// Features to switch on.
    pub features: Vec<Spanned<String>>,
    /// Whether the default features are on too.
    pub default_features: bool,
    /// The profile.
    pub profile: String,
    /// Whether the C library is linked in, so that the program runs on a base without one.
    pub is_static: bool,
}

/// Go programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Go {
    /// The packages of the programs, such as `./cmd/picoclaw`.
    pub main: Vec<Spanned<String>>,
    /// Build tags.
    pub tags: Vec<Spanned<String>>,
    /// Package variables set when linking, as `-X NAME=VALUE` does; `{version}` stands for the image's version.
    pub variables: BTreeMap<String, String>,
    /// Patterns of packages whose `go:generate` lines run before compiling, without network.
    pub generate: Vec<Spanned<String>>,
}

/// Zig programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zig {
    /// What the compiler goes for.
    pub optimize: Optimize,
    /// Options of `build.zig`, as `-DNAME=VALUE` sets them; `{version}` stands for the image's version.
    pub options: BTreeMap<String, String>,
    /// Programs that go into the image; every one that is installed when empty.
    pub bins: Vec<Spanned<String>>,
}

/// What Zig's compiler goes for. Spec: Zig language reference, §Build Mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimize {
    /// A small program.
    Small,
    /// A fast program.
    Fast,
    /// A program that checks itself.
    Safe,
}

impl Optimize {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Small, Self::Fast, Self::Safe];

    /// Zig's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "ReleaseSmall",
            Self::Fast => "ReleaseFast",
            Self::Safe => "ReleaseSafe",
        }
    }
}

/// Firmware for one of Espressif's chips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspIdf {
    /// The chip, as `idf.py set-target` calls it.
    pub chip: Spanned<String>,
    /// The partition table's CSV, relative to the source's root.
    pub partitions: Spanned<String>,
    /// Whether the source takes components from Espressif's registry, which its `dependencies.lock` pins.
    pub components: bool,
    /// Files the source must not hold: what is in them would end up in the firmware.
    pub refuse: Vec<Spanned<String>>,
}
