//! How the programs of an image run on this machine.

use diag::{Diagnostic, Reported as _, codes};
use engine::embedded::sandbox::Emulator;
use oci::Platform;

use crate::cli::Failure;
use crate::settings::Variables;

/// How the programs of an image run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// As this machine's own.
    Native,
    /// By a program of this machine.
    Emulated(Emulator),
}

impl Execution {
    /// What start periods are multiplied by. Go programs were seen to start 5 times more slowly than natively; ten leaves
    /// as much again for others.
    const SLOWNESS: u32 = 10;

    /// How images for a platform run here; emulation has to be allowed.
    ///
    /// # Errors
    /// They do not, or what emulates is missing.
    pub fn choose(platform: Platform, allow_emulation: bool, variables: &Variables) -> Result<Self, Failure> {
        if Platform::host().is_none_or(|host| host.architecture == platform.architecture) {
            return Ok(Self::Native);
        }
        if !allow_emulation {
            return Err(Diagnostic::new(
                codes::contract::ENGINE,
                format!("this machine runs no images for {platform}"),
            )
            .help("let qemu run it with `--allow-emulation`, or test it on a machine of that platform")
            .help("`clawbuild check` looks at it anywhere")
            .into());
        }
        let path = variables.path.as_deref().unwrap_or_default();
        let emulator =
            Emulator::find(platform.architecture, path).map_err(|error| Failure::from(error.diagnostic()))?;
        Ok(Self::Emulated(emulator))
    }

    /// What start periods are multiplied by.
    pub(super) const fn slowness(&self) -> u32 {
        match self {
            Self::Native => 1,
            Self::Emulated(_) => Self::SLOWNESS,
        }
    }

    pub(super) fn emulator(&self) -> Option<&Emulator> {
        match self {
            Self::Native => None,
            Self::Emulated(emulator) => Some(emulator),
        }
    }
}
