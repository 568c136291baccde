//! Builders at work: the same requests to a buildkitd and to the embedded engine, and everything that can go wrong.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[path = "../../engine/embedded/tests/base.rs"]
mod base;
mod dials;
mod docker;
mod equal;
mod failures;
#[path = "../../engine/embedded/tests/graphs.rs"]
mod graphs;
mod node;
mod random;
mod registries;
mod session;
mod site;
mod torture;

use std::process::ExitCode;

use support::{Capability, Suite};

/// One thing that must hold.
type Check = (&'static str, fn());

const NEEDS: &[Capability] = &[Capability::Root, Capability::BuildKit];

fn main() -> ExitCode {
    engine::embedded::sandbox::helper_main_if_requested();
    let checks = [equal::CHECKS, torture::CHECKS, random::CHECKS, failures::CHECKS, session::CHECKS]
        .into_iter()
        .flatten()
        .copied();
    let suite = checks.fold(Suite::new(), |suite, (name, check): Check| suite.test(name, NEEDS, check));
    let needs = &[Capability::Root, Capability::BuildKit, Capability::Registry, Capability::Skopeo];
    let checks = registries::CHECKS.iter().chain(session::REGISTRY_CHECKS);
    let suite = checks.fold(suite, |suite, &(name, check)| suite.test(name, needs, check));
    let suite = dials::CHECKS.iter().fold(suite, |suite, &(name, check)| suite.test(name, dials::NEEDS, check));
    let (checks, needs) = (docker::REGISTRY_CHECKS, docker::REGISTRY_NEEDS);
    let suite = checks.iter().fold(suite, |suite, &(name, check)| suite.test(name, needs, check));
    docker::CHECKS.iter().fold(suite, |suite, &(name, check)| suite.test(name, docker::NEEDS, check)).run()
}
