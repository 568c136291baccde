//! Test binaries whose tests say what they need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{Capability, require};

/// The tests of one binary (`harness = false`), run and reported as `cargo test` does.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
}

impl Suite {
    /// No tests yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a test. It fails by panicking. Where the machine lacks what it needs it is ignored with the reason, or
    /// fails if that was promised.
    #[must_use]
    pub fn test(
        mut self,
        name: impl Into<String>,
        needs: &'static [Capability],
        test: impl FnOnce() + Send + 'static,
    ) -> Self {
        self.trials.push(Trial::ignorable_test(name, move || {
            let run = || match require(needs) {
                Ok(()) => {
                    test();
                    Completion::Completed
                }
                Err(reason) => Completion::ignored_with(reason),
            };
            catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("the test panicked");
                Failed::from(text)
            })
        }));
        self
    }

    /// Runs the tests the command line asks for.
    ///
    /// # Panics
    /// When the suite holds no tests: an empty corpus must not pass.
    #[must_use]
    pub fn run(self) -> ExitCode {
        assert!(!self.trials.is_empty(), "a suite without tests proves nothing");
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}
