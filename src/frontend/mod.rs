//! clawbuild as a BuildKit frontend: the same recipe, lock and lowering, inside a daemon.
//!
//! A daemon runs this program in the image a recipe's `# syntax=` line names. Recipe, bases and lock come from the build
//! context, options from the environment; bases and Debian layers are taken from registries by the digests the lock has.
//! Nothing is resolved, nothing is kept, and there is no network but the daemon.

mod build;
mod context;
mod directory;
mod options;
mod report;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use buildkit::gateway::{Environment, Gateway, GatewayError, Stdio};
use diag::{Diagnostic, Reported as _, codes};

/// The verb in a frontend image's entry point.
pub(crate) const VERB: &str = "frontend";

/// The daemon's environment, if it is a daemon that runs this process.
#[must_use]
pub(crate) fn environment() -> Option<Environment> {
    let mut arguments = std::env::args_os().skip(1);
    let asked = match (arguments.next(), arguments.next()) {
        (None, _) => true,
        (Some(verb), None) => verb == VERB,
        (Some(_), Some(_)) => false,
    };
    // Variables that are no text cannot be the daemon's.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    asked.then(|| Environment::from_variables(variables)).flatten()
}

/// What `clawbuild frontend` says to whoever is no daemon.
#[must_use]
pub(crate) fn no_daemon() -> Diagnostic {
    Diagnostic::new(codes::frontend::NO_DAEMON, "a frontend is run by BuildKit, not by hand")
        .help("make the image that BuildKit runs: `clawbuild frontend-image --push -t REGISTRY/NAME:TAG`")
        .help("and name it in the first line of a recipe: `# syntax=REGISTRY/NAME:TAG`")
}

/// Serves one build of a daemon. Standard output belongs to the protocol, standard error to the daemon's log.
#[must_use]
pub(crate) fn run(environment: Environment) -> ExitCode {
    // One thread will do: all work is waiting for the daemon.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Diagnostic::new(codes::cli::BUG, "no runtime can be started").caused_by(&error)),
    };
    runtime.block_on(async {
        let gateway = match Gateway::open(Arc::new(Stdio)).await {
            Ok(gateway) => gateway,
            Err(error) => return failed(&no_daemon_answers(&error)),
        };
        let ended = match build::build(&gateway, environment).await {
            Ok(result) => gateway.finish(result).await,
            Err(stop) => gateway.fail(stop.into_status()).await,
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.diagnostic()),
        }
    })
}

fn no_daemon_answers(error: &GatewayError) -> Diagnostic {
    Diagnostic::new(codes::frontend::NO_DAEMON, "no BuildKit daemon answers on the standard streams").caused_by(error)
}

fn failed(diagnostic: &Diagnostic) -> ExitCode {
    // The daemon keeps the last lines of standard error; there is nobody else left to tell.
    let _ = writeln!(std::io::stderr(), "{}", report::text(diagnostic));
    ExitCode::from(diagnostic.code.exit.status())
}
