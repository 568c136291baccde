//! The boot contract: what every image is held to when it is run, and what a recipe says cannot hold.

use std::collections::BTreeMap;
use std::fmt;

use diag::{Source, Spanned, codes, did_you_mean};

use crate::reader::Table;
use crate::{RecipeError, Result};

/// One thing an image must do when it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContractPoint {
    /// Health answers inside its start period.
    Health,
    /// Its ports can be reached from outside the container.
    Reachable,
    /// Overrides reach the configuration the runtime reads.
    Overrides,
    /// Every process runs as the declared user.
    User,
    /// It runs as any other user, too.
    RandomUid,
    /// It runs with a read-only root.
    ReadOnlyRoot,
    /// It writes nowhere but into its volumes and temporary directories.
    Confined,
    /// Secrets from files reach it, and nothing else.
    Secrets,
    /// It ends in time when asked to.
    Stop,
}

impl ContractPoint {
    /// Every point, in the order reported.
    pub const ALL: [Self; 9] = [
        Self::Health,
        Self::Reachable,
        Self::Overrides,
        Self::User,
        Self::RandomUid,
        Self::ReadOnlyRoot,
        Self::Confined,
        Self::Secrets,
        Self::Stop,
    ];

    /// The word recipes and reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Reachable => "reachable",
            Self::Overrides => "overrides",
            Self::User => "user",
            Self::RandomUid => "random-uid",
            Self::ReadOnlyRoot => "read-only-root",
            Self::Confined => "confined",
            Self::Secrets => "secrets",
            Self::Stop => "stop",
        }
    }

    /// The point of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.as_str() == name)
    }
}

impl fmt::Display for ContractPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a recipe says about the boot contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// Points that cannot hold, each with the reason, which lies upstream.
    pub waived: BTreeMap<ContractPoint, Spanned<String>>,
}

impl Contract {
    /// Reads `[contract]`.
    ///
    /// # Errors
    /// A point that does not exist, or that is waived without a reason.
    pub(crate) fn read(source: &Source, table: Table<'_>) -> Result<Self> {
        let mut contract = Self::default();
        if let Some(waived) = table.table("waive")? {
            for (name, value) in waived.entries() {
                let point = ContractPoint::named(name.value).ok_or_else(|| unknown(source, &name))?;
                contract.waived.insert(point, Spanned::new(value.text()?.value, name.span));
            }
        }
        table.finish()?;
        Ok(contract)
    }
}

fn unknown(source: &Source, name: &Spanned<&str>) -> RecipeError {
    let words = ContractPoint::ALL.map(ContractPoint::as_str);
    let help = match did_you_mean(name.value, words) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("points of the contract: {}", words.join(", ")),
    };
    let message = format!("unknown point `{}` in `[contract] waive`", name.value);
    RecipeError::at(codes::recipe::UNKNOWN_KEY, source, name.span, message).help(help)
}
