//! Programs of other people that some tests need.

use std::io::Write as _;
use std::path::PathBuf;

/// Something a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// Debian's `docker-registry`.
    Registry,
    Skopeo,
}

impl Tool {
    /// What `CLAWBUILD_TEST_REQUIRE` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Skopeo => "skopeo",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Registry => "docker-registry",
            Self::Skopeo => "skopeo",
        }
    }

    /// The program. `None`, said aloud, where it is not installed; a failure where it is required.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).map(|directory| directory.join(self.program())).find(|path| path.is_file());
        if found.is_none() {
            let required = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name.trim() == self.name()),
                "{self:?} is required and not installed"
            );
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Past the harness, which would keep the word of a test that passes.
            let _ = writeln!(std::io::stderr(), "ignored: {test} needs `{}`, which is not installed", self.program());
        }
        found
    }
}
