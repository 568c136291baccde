//! What goes wrong, and what is said of it.

use std::time::{Duration, Instant};

use crate::Check;
use std::process::Command;

use crate::fixture::{ANY, Bench, ROOT, Who};

pub(crate) const CHECKS: &[Check] = &[
    ("a_failing_step_is_told_and_stops_the_others", ANY, failing),
    ("what_is_missing_is_named", ANY, missing),
    ("capabilities_are_compared_first", ANY, capabilities),
    ("a_full_disk_is_told_and_harms_nothing", ROOT, full_disk),
];

fn failing(bench: &Bench, who: Who) {
    let site = bench.site(who, &["fail for i in 1 2 3; do echo line $i; done; echo oh no >&2; exit 7"]);
    let started = Instant::now();
    let report = site.solve();
    assert!(started.elapsed() < Duration::from_secs(30), "the long step was stopped");
    let error = report.error();
    assert_eq!(error.code, "engine/step-failed");
    assert!(error.message.starts_with("[app] fail: `/bin/sh -ec for i"), "{}", error.message);
    assert!(error.message.ends_with("exited with status 7"), "{}", error.message);
    assert_eq!(error.related, ["line 1", "line 2", "line 3", "oh no"]);
    assert_eq!(error.labels, ["recipe.toml Span { start: 9, end: 15 }"]);
}

fn missing(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["secret"]);
    let error = site.solve().error().clone();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("engine/no-secret", "secret: the step needs the secret `token`, which was not given")
    );

    site.job.graphs = vec!["app".to_owned()];
    site.job.contexts.clear();
    assert_eq!(site.solve().error().message, "context: there is no local context `context`");

    let mut site = bench.site(who, &["base"]);
    site.job.layout = site.directory.join("nowhere");
    let error = site.solve().error().clone();
    assert_eq!(error.code, "engine/image");
    assert!(error.message.contains("has no blob sha256:"), "{}", error.message);
}

fn capabilities(bench: &Bench, who: Who) {
    let report = bench.site(who, &["agent"]).solve();
    let error = report.error();
    assert_eq!(error.code, "engine/missing-capability");
    assert!(error.message.contains("`exec.mount.ssh`"), "{}", error.message);
    assert_eq!(report.ran, [""; 0]);
}

fn full_disk(bench: &Bench, who: Who) {
    let site = bench.site(who, &["large 40"]);
    let store = &site.job.store;
    std::fs::create_dir(store).expect("a directory");
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).arg(store).status().expect("it starts");
        assert!(status.success(), "{program} {arguments:?}");
    };
    run("mount", &["-t", "tmpfs", "-o", "size=30m", "tmpfs"]);
    let report = site.solve();
    let leftover = site.stored("tmp");
    run("mount", &["-o", "remount,size=200m"]);
    let again = site.solve();
    run("umount", &["--lazy"]);
    // The step itself is told by the kernel, and says so; the engine's own writing is told as what it is.
    let error = report.error();
    let told = error.related.iter().any(|line| line.contains("No space left")) || error.code == "store/full";
    assert!(told, "{error:#?}");
    assert_eq!(leftover.len(), 0);
    assert_eq!(again.layers.len(), 3, "{again:#?}");
}
