//! What can go wrong.

use crate::Check;
use crate::site::Site;

pub(crate) const CHECKS: &[Check] = &[("a failed step is told as by the embedded engine", step)];

fn step() {
    let site = Site::new();
    let graph = "fail echo one; echo two >&2; exit 42";
    let ours = site.solve(&site.embedded(), site.request(graph)).diagnostic();
    let theirs = site.solve(&site.buildkit(), site.request(graph)).diagnostic();
    assert_eq!(ours, theirs);
    assert!(ours.message.contains("exited with status 42"), "{ours:#?}");
}
