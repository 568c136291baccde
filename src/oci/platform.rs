//! Platforms: `os/architecture[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system images are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// Linux.
    Linux,
}

/// A processor architecture, by its Go name as OCI documents write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit Arm.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
}

/// What an image runs on. Spec: OCI image-spec image-index.md §platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The architecture. First, since that is the order registries show documents in.
    pub architecture: Architecture,
    /// The operating system.
    pub os: Os,
}

/// A text that names no platform clawbuild builds for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform clawbuild builds for: linux/amd64, linux/arm64, linux/riscv64")]
pub struct PlatformError(pub String);

impl Platform {
    /// `linux/amd64`.
    pub const LINUX_AMD64: Self = Self { architecture: Architecture::Amd64, os: Os::Linux };
    /// `linux/arm64`.
    pub const LINUX_ARM64: Self = Self { architecture: Architecture::Arm64, os: Os::Linux };
    /// `linux/riscv64`.
    pub const LINUX_RISCV64: Self = Self { architecture: Architecture::Riscv64, os: Os::Linux };

    /// The platform this very program was compiled for, where it is one of those known.
    #[must_use]
    pub fn host() -> Option<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => Architecture::Amd64,
            "aarch64" => Architecture::Arm64,
            "riscv64" => Architecture::Riscv64,
            _ => return None,
        };
        (std::env::consts::OS == "linux").then_some(Self { architecture, os: Os::Linux })
    }
}

impl Architecture {
    /// The OCI (Go) name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// Debian's name, the same for all three.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        self.as_str()
    }

    /// The name in npm package names and `process.arch`.
    #[must_use]
    pub const fn node(self) -> &'static str {
        match self {
            Self::Amd64 => "x64",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// The name in GNU triplets and `uname -m`.
    #[must_use]
    pub const fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.os {
            Os::Linux => write!(f, "linux/{}", self.architecture),
        }
    }
}

impl FromStr for Architecture {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            "riscv64" => Ok(Self::Riscv64),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "linux/amd64" => Ok(Self::LINUX_AMD64),
            "linux/arm64" | "linux/arm64/v8" => Ok(Self::LINUX_ARM64),
            "linux/riscv64" => Ok(Self::LINUX_RISCV64),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}
