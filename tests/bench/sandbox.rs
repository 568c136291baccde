//! From the start of a step to its end, when the step does nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use engine::embedded::sandbox::{Cancel, Sandbox, Spec};
use engine::userns::Identity;
use support::{run, tool};

use crate::Bench;
use crate::measure::{Comparison, repeat, succeed};

pub(crate) fn sandbox(bench: &Bench) {
    let scratch = bench.cli.scratch().join("sandbox");
    let root = scratch.join("rootfs");
    let output = format!("type=local,dest={}", root.display());
    fs::create_dir_all(&scratch).expect("the scratch directory is writable");
    succeed(&mut bench.clawbuild(["--quiet", "base/debian", "--output", &output]));

    let ours = Sandbox::new(&scratch, Identity::Root).expect("the sandbox can be made");
    let cancel = Cancel::new().expect("descriptors are left");
    let once = |_| {
        let status = ours.run_blocking(Spec::new(&root, ["/bin/true"]), &mut |_, _| {}, &cancel);
        assert!(status.expect("the step runs").success());
    };
    // runc with the settings it has for containers of its own: namespaces, capabilities, no seccomp filter.
    let bundle = scratch.join("bundle");
    fs::create_dir(&bundle).expect("the scratch directory is writable");
    run("runc", ["spec", "--bundle", bundle.to_str().expect("UTF-8")]);
    let config = bundle.join("config.json");
    let text = fs::read_to_string(&config).expect("runc wrote it");
    let mut spec: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    spec["root"]["path"] = root.to_str().into();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    fs::write(&config, spec.to_string()).expect("the bundle is writable");
    let runcs = |time: usize| {
        let mut command = Command::new(tool("runc"));
        command.arg("--root").arg(scratch.join("runc")).args(["run", "--bundle"]).arg(&bundle);
        succeed(command.arg(format!("clawbuild-bench-{}-{time}", std::process::id())));
    };
    let mut comparison = Comparison::new("a step that runs `true`, start to exit");
    comparison.row("clawbuild (seccomp, capabilities dropped)", repeat(101, |_| {}, once));
    comparison.row("runc run", repeat(21, |_| {}, runcs));
    comparison.at_most(Duration::from_millis(5));
    print!("{comparison}");
}
