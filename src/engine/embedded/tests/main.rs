//! The embedded engine at work: real graphs, solved in processes of their own, as root and as an ordinary user.
//!
//! What a machine cannot do is reported as ignored, with the reason, and fails if `CLAWBUILD_TEST_REQUIRE` names it: a
//! comma-separated list of `root`, `userns`, `range`.

mod base;
mod cache;
mod concurrency;
mod failures;
mod fixture;
mod graphs;
mod images;
mod worker;

use fixture::{Bench, Who};
use libtest_mimic::{Arguments, Failed, Trial};

/// One thing that must hold.
pub(crate) type Check = (&'static str, &'static [Who], fn(&Bench, Who));

fn main() {
    engine::embedded::sandbox::helper_main_if_requested();
    if std::env::var_os(fixture::WORKER).is_some() {
        return worker::main();
    }
    let arguments = Arguments::from_args();
    let bench: &'static Bench = Box::leak(Box::new(Bench::new()));
    let mut trials = Vec::new();
    let checks = [cache::CHECKS, concurrency::CHECKS, failures::CHECKS, images::CHECKS];
    for (name, whos, check) in checks.into_iter().flatten().copied() {
        for &who in whos {
            let trial = format!("{}::{name}", who.name());
            trials.push(Trial::ignorable_test(trial, move || match bench.lacks(who) {
                None => {
                    check(bench, who);
                    Ok(libtest_mimic::Completion::Completed)
                }
                Some(reason) if fixture::is_required(who) => Err(Failed::from(format!("required, but {reason}"))),
                Some(reason) => Ok(libtest_mimic::Completion::ignored_with(reason)),
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench.remove();
    conclusion.exit();
}
