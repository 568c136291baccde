//! Prints what this machine can do and why not. Fails if something `CLAWBUILD_TEST_REQUIRE` promises is missing.

#![expect(clippy::print_stdout, reason = "the table is the program's result")]

use std::process::ExitCode;

use support::Capability;

fn main() -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for capability in Capability::ALL {
        let (word, detail) = match capability.probe() {
            Ok(detail) => ("yes", detail),
            Err(reason) if capability.is_promised() => {
                status = ExitCode::FAILURE;
                ("MISSING", reason)
            }
            Err(reason) => ("no", reason),
        };
        println!("  {:<11} {word:<8} {detail}", capability.name());
    }
    status
}
