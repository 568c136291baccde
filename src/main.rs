//! The clawbuild program. Everything is in the library; this decides only what has to be decided before any thread
//! exists: which part of clawbuild this process is.

use std::process::ExitCode;

fn main() -> ExitCode {
    clawbuild::start()
}
