//! What is said of steps that cannot be run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use engine::embedded::sandbox::{Mount, MountSource};
use serde_json::Value;

use crate::Check;
use crate::fixture::{ALL, Bench, Job, Who};

pub(crate) const CHECKS: &[Check] = &[
    ("programs that cannot be executed", ALL, programs),
    ("unknown accounts", ALL, accounts),
    ("bad working directories", ALL, working_directories),
    ("missing mount sources", ALL, mount_sources),
];

fn text(job: Job<'_>) -> String {
    let ended = job.run();
    match &ended.result["text"] {
        Value::String(text) => text.clone(),
        _ => panic!("not refused: {ended:?}"),
    }
}

fn programs(bench: &Bench, who: Who) {
    let layer = |job: &Job<'_>| {
        let layer = job.directory_with("layer", "unused", "");
        let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
        foreign.resize(0x40, 0);
        foreign[0x10] = 2;
        foreign[0x12] = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        for (name, content, mode) in [
            ("foreign", foreign.as_slice(), 0o755),
            ("script", b"#!/bin/missing -x\n", 0o755),
            ("dos", b"#!/bin/sh\r\n", 0o755),
            ("words", b"just words", 0o755),
            ("locked", b"#!/bin/sh\n", 0o644),
        ] {
            fs::write(layer.join(name), content).expect("a file");
            fs::set_permissions(layer.join(name), fs::Permissions::from_mode(mode)).expect("permissions");
        }
        layer
    };
    let other = if cfg!(target_arch = "aarch64") { "x86_64" } else { "aarch64" };
    for (program, expected) in [
        ("nothing", format!("program `nothing` not found in `{}`", engine::embedded::sandbox::DEFAULT_PATH)),
        ("/bin/nothing", "program `/bin/nothing` not found".to_owned()),
        ("/bin/sh/nothing", "program `/bin/sh/nothing` not found".to_owned()),
        ("/foreign", format!("`/foreign` is a program for {other}, which this machine cannot run")),
        ("/script", "`/script` needs `/bin/missing`, which is not there".to_owned()),
        ("/dos", "`/dos` needs `/bin/sh\\r`, which is not there".to_owned()),
        ("/words", "`/words` is neither a program nor a script with a `#!` line".to_owned()),
        ("/locked", "`/locked` may not be executed".to_owned()),
        ("/etc", "`/etc` may not be executed".to_owned()),
    ] {
        let mut job = bench.job(who, [program]);
        let layer = layer(&job);
        job.layers.push(layer);
        assert_eq!(text(job), expected);
    }
}

fn accounts(bench: &Bench, who: Who) {
    for (user, expected) in [
        ("nobody", "no user `nobody` in the step's /etc/passwd"),
        ("app:nothing", "no group `nothing` in the step's /etc/group"),
    ] {
        let mut job = bench.job(who, ["true"]);
        job.spec.user = user.to_owned();
        assert_eq!(text(job), expected);
    }
}

fn working_directories(bench: &Bench, who: Who) {
    for cwd in ["/etc/passwd", "/etc/passwd/below"] {
        let mut job = bench.job(who, ["true"]);
        job.spec.cwd = cwd.to_owned();
        assert_eq!(text(job), format!("the working directory `{cwd}` is not a directory"));
    }
}

fn mount_sources(bench: &Bench, who: Who) {
    let mut job = bench.job(who, ["true"]);
    let path = job.directory_with("source", "file", "");
    let source = MountSource::Bind { path, selector: "/not/here".to_owned(), read_only: true };
    job.spec.mounts = vec![Mount { target: "/x".to_owned(), source }];
    assert_eq!(text(job), "`/not/here`, to be mounted at `/x`, does not exist");
}
