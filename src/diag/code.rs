//! Diagnostic codes: one stable `area/slug` per kind of failure, with the exit status it leads to.

use std::fmt;

/// The process exit status a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 1: the user can mend it (a recipe, a failed step, a full disk).
    User,
    /// 2: the command line is not understood.
    Usage,
    /// 3: no usable engine, or a capability is missing.
    Engine,
    /// 4: something did not verify (a digest, a signature, the lock under `--locked`).
    Verification,
    /// 70: a bug in clawbuild.
    Bug,
    /// 75: transient, worth trying again (network, a busy registry).
    Transient,
    /// 130: interrupted, cleaned up.
    Interrupted,
}

impl Exit {
    /// The numeric status handed to the operating system.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Usage => 2,
            Self::Engine => 3,
            Self::Verification => 4,
            Self::Bug => 70,
            Self::Transient => 75,
            Self::Interrupted => 130,
        }
    }
}

/// One kind of failure. Declared once, in [`crate::codes`]; two codes are the same when their slugs are.
#[derive(Clone, Copy)]
pub struct Code {
    /// Stable name, `area/slug`, what scripts match on and `clawbuild explain` takes.
    pub slug: &'static str,
    /// The exit status the program ends with when this is the failure.
    pub exit: Exit,
    /// One line: what this code means in general.
    pub title: &'static str,
    /// A paragraph for `clawbuild explain`: why it happens and how to mend it.
    pub explanation: &'static str,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug)
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.slug == other.slug
    }
}

impl Eq for Code {}
