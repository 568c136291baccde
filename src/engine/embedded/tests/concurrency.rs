//! Several at once, and some that do not come to their end.

use std::fs;
use std::time::{Duration, Instant};

use crate::Check;
use crate::fixture::{ANY, Bench, Who, eventually, finish};

pub(crate) const CHECKS: &[Check] = &[
    ("two_processes_run_a_step_once", ANY, two_processes),
    ("two_solves_of_one_process_run_a_step_once", ANY, two_solves),
    ("killed_at_any_moment_it_goes_on", ANY, killed),
    ("cancelled_it_stops_soon_and_leaves_nothing", ANY, canceled),
];

fn two_processes(bench: &Bench, who: Who) {
    let site = bench.site(who, &["count 0.3"]);
    let both = [site.start(), site.start()].map(|child| finish(child).swap_remove(0));
    assert_eq!(both[0].manifest(), both[1].manifest());
    let logs: String = both.iter().map(|report| report.log.as_str()).collect();
    assert_eq!(logs, "ran\n", "{both:#?}");
}

fn two_solves(bench: &Bench, who: Who) {
    let reports = bench.site(who, &["count 0.3", "count 0.3", "base"]).solve_all();
    assert_eq!(reports[0].manifest(), reports[1].manifest());
    let logs: String = reports.iter().map(|report| report.log.as_str()).collect();
    assert_eq!(logs, "ran\n", "{reports:#?}");
}

fn killed(bench: &Bench, who: Who) {
    let expected = bench.site(who, &["slow 0"]).solve();
    let site = bench.site(who, &["slow 0"]);
    // Early kills meet the scanning and unpacking, late ones the steps and the export.
    for delay in [1, 10, 30, 60, 100, 150, 250] {
        let mut child = site.start();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    let report = site.solve();
    assert_eq!(report.manifest(), expected.manifest(), "{report:#?}");
    assert_eq!(report.layers, expected.layers);
    // What dead processes left was swept, and this one has left nothing.
    assert_eq!(site.stored("tmp").len(), 0, "{:?}", site.stored("tmp"));

    // Killed in the middle of a step, and of it alone.
    let site = bench.site(who, &["slow 30"]);
    let mut child = site.start();
    let notes = || site.stored("cache").iter().any(|id| site.stored(&format!("cache/{id}")).contains("begun"));
    assert!(eventually(notes), "the step begins");
    child.kill().expect("kills");
    child.wait().expect("ends");
    let mut site = site;
    site.job.graphs = vec!["slow 0".to_owned()];
    let report = site.solve();
    assert!(!report.has_run("one"), "what was done stays done: {report:#?}");
    assert_eq!(report.manifest(), expected.manifest());
}

fn canceled(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["slow 67"]);
    site.job.cancel_after = Some(400);
    let started = Instant::now();
    let report = site.solve();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(report.error().code, "cli/interrupted");
    assert_eq!(site.stored("tmp").len(), 0);
    let is_running = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("sleep\u{0}67")
    };
    let running = || fs::read_dir("/proc").expect("/proc").flatten().any(is_running);
    assert!(eventually(|| !running()), "the step is gone");
}
