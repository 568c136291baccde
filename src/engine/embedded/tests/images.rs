//! What comes out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Mutex;

use oci::{Digest, ImageConfig, Manifest};

use crate::Check;
use crate::fixture::{ALL, ANY, Bench, ROOT, Wanted, Who, give};

pub(crate) const CHECKS: &[Check] = &[
    ("everybody_gets_the_same_image", ALL, same_for_everybody),
    ("a_base_keeps_its_layers_and_is_not_unpacked_to_be_merged", ANY, merging),
    ("merged_trees_hide_and_remove", ANY, merged),
    ("changes_are_told_apart_from_what_they_were_made_on", ANY, changes),
    ("trees_are_compared_when_they_have_nothing_in_common", ANY, difference),
    ("secrets_stay_nowhere", ANY, secrets),
    ("files_come_out", ANY, files),
    ("a_graph_may_be_deep", ROOT, deep),
    ("sources_that_are_at_hand_need_no_network", ALL, offline),
    ("a_commit_is_taken_and_kept", ANY, commit),
];

/// The images of one kind of user are those of all others: who is first sets the standard.
fn same_for_everybody(bench: &Bench, who: Who) {
    static FIRST: Mutex<BTreeMap<String, (Who, Digest)>> = Mutex::new(BTreeMap::new());
    let graphs = ["app", "owners", "merged", "changes", "whole-difference", "many"];
    let site = bench.site(who, &graphs);
    let reports = site.solve_all();
    let mut first = FIRST.lock().expect("a lock");
    for (graph, report) in graphs.iter().zip(&reports) {
        let (other, digest) = *first.entry((*graph).to_owned()).or_insert((who, report.manifest()));
        assert_eq!(report.manifest(), digest, "{graph} as {} is not what it is as {}", who.name(), other.name());
    }
    let (owners, _) = reports[1].layers.last().expect("layers");
    assert_eq!(
        site.layer(owners),
        [
            "chowned 755 11:12",
            "chowned/file 644 11:12",
            "chowned/link 777 11:12",
            "copied 755 1001:1002",
            "copied/file 644 7:8",
            "copied/link 777 9:10",
        ]
    );
}

fn merging(bench: &Bench, who: Who) {
    let site = bench.site(who, &["many"]);
    let mut bare = bench.site(who, &["base"]);
    let base = bench.base().layers;
    let report = bare.solve();
    let kept: Vec<Digest> = report.layers.iter().map(|(layer, _)| *layer).collect();
    assert_eq!(kept, base.iter().map(|layer| layer.digest).collect::<Vec<_>>());
    assert_eq!(bare.stored("snapshots").len(), 0, "nothing was unpacked");
    bare.job.output = Wanted::Tar(bare.directory.join("base.tar"));
    bare.solve();
    assert_eq!(bare.stored("snapshots").len(), 2, "to see the files, it was");

    let report = site.solve();
    assert_eq!(report.layers.len(), 2 + 12 + 4);
    let manifest: Manifest = serde_json::from_slice(&site.blob(&report.manifest())).expect("a manifest");
    let config: ImageConfig = serde_json::from_slice(&site.blob(&manifest.config.digest)).expect("a config");
    let diff_ids: Vec<Digest> = config.rootfs.diff_ids.iter().map(|id| id.0).collect();
    assert_eq!(diff_ids, report.layers.iter().map(|(_, diff_id)| *diff_id).collect::<Vec<_>>());
    assert_eq!(config.history.len(), report.layers.len());
    assert_eq!(config.config.cmd, ["/app"]);
}

fn merged(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["merged"]);
    let out = site.directory.join("out");
    let report = site.solve();
    let layers: Vec<Vec<String>> = report.layers[2..].iter().map(|(layer, _)| site.layer(layer)).collect();
    assert_eq!(layers[0], ["opt 755 0:0", "opt/both 644 0:0", "opt/first 644 0:0"]);
    assert_eq!(layers[1], ["opt 755 0:0", "opt/both 644 0:0"]);
    assert_eq!(layers[2], ["etc 755 0:0", "etc/.wh.passwd 0 0:0"]);

    site.job.output = Wanted::Directory(out.clone());
    site.solve();
    assert_eq!(fs::read_to_string(out.join("opt/both")).expect("reads"), "from the second");
    assert_eq!(fs::read_to_string(out.join("opt/first")).expect("reads"), "first");
    assert!(!out.join("etc/passwd").exists());
    assert!(out.join("bin/sh").exists());
}

fn changes(bench: &Bench, who: Who) {
    let site = bench.site(who, &["changes"]);
    let report = site.solve();
    assert_eq!(report.layers.len(), 1, "the base is not among them");
    let layer = site.layer(&report.layers[0].0);
    let expected = ["etc 755 0:0", "etc/new 644 0:0", "etc/.wh.passwd 0 0:0", "made 755 0:0", "made/x 644 0:0"];
    assert_eq!(layer, expected);
}

fn difference(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["whole-difference"]);
    let report = site.solve();
    let layer = site.layer(&report.layers.last().expect("layers").0);
    assert_eq!(layer, ["dir 755 0:0", "dir/only-above 644 0:0", "dir/.wh.only-below 0 0:0"]);
    let out = site.directory.join("out");
    site.job.output = Wanted::Directory(out.clone());
    site.solve();
    assert_eq!(fs::read_dir(out.join("dir")).expect("lists").count(), 2);
    assert!(out.join("dir/same").exists() && out.join("dir/only-above").exists());
}

fn secrets(bench: &Bench, who: Who) {
    let value = "correct-horse-battery";
    let mut site = bench.site(who, &["secret"]);
    site.job.secrets.insert("token".to_owned(), value.to_owned());
    let first = site.solve();
    let (layer, _) = first.layers.last().expect("layers");
    assert_eq!(site.layer(layer), ["seen 644 0:0"]);
    let mut files = vec![site.job.store.clone()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).expect("lists").map(|entry| entry.expect("an entry").path()));
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("reads");
            assert!(!bytes.windows(value.len()).any(|window| window == value.as_bytes()), "{}", path.display());
        }
    }
    // The value is no part of any key.
    site.job.secrets.insert("token".to_owned(), "another value".to_owned());
    assert_eq!(site.solve().misses, 0);
}

fn files(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["app"]);
    let (out, tar) = (site.directory.join("out"), site.directory.join("out.tar"));
    site.job.output = Wanted::Directory(out.clone());
    site.solve();
    let built = out.join("srv/app/built");
    assert_eq!(fs::read_to_string(&built).expect("reads"), "#!/bin/sh\necho app\ndata\n");
    assert_eq!(fs::metadata(out.join("srv/app/config")).expect("stats").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_link(out.join("srv/app/share/link")).expect("a link").to_str(), Some("../built"));
    site.job.output = Wanted::Tar(tar.clone());
    site.solve();
    let first = fs::read(&tar).expect("reads");
    site.solve();
    assert_eq!(fs::read(&tar).expect("reads"), first);
}

/// More layers than overlayfs takes in one go by mount options.
fn deep(bench: &Bench, who: Who) {
    let report = bench.site(who, &["deep 120"]).solve();
    assert_eq!(report.layers.len(), 121, "{:?}", report.error);
}

/// The worker is offline; what the store has is enough.
fn offline(bench: &Bench, who: Who) {
    let blob = &bench.base().layers[1];
    let mut site = bench.site(who, &["base"]);
    let base = site.solve();
    site.job.graphs = vec!["pulled".to_owned(), format!("downloaded {}", blob.digest)];
    site.job.layout = site.directory.join("nowhere");
    let reports = site.solve_all();
    assert_eq!(reports[0].manifest, base.manifest);
    // A user who is alone in the namespace sees only files of root's, whatever the layer says.
    let owner = if who == Who::Single { "0:0" } else { "3:4" };
    assert_eq!(reports[1].log, format!("/in/file.bin 640 {owner} 0\nfile.bin\n"), "{:#?}", reports[1]);
    let (layer, _) = reports[1].layers.last().expect("layers");
    assert_eq!(site.layer(layer), ["file.bin 640 3:4"]);

    site.job.graphs = vec![format!("downloaded {}", Digest::of("not there"))];
    let error = site.solve().error().clone();
    assert!(error.message.starts_with("download: ") && error.code.starts_with("registry/"), "{error:#?}");
}

fn commit(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &[]);
    let remote = site.directory.join("remote");
    fs::create_dir(&remote).expect("a directory");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t"];
        let output = Command::new("git").args(identity).args(arguments).current_dir(&remote).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    git(&["init", "--quiet"]);
    fs::write(remote.join("file"), "content\n").expect("writes");
    git(&["add", "file"]);
    git(&["commit", "--quiet", "--message", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    give(&remote, who);
    site.job.graphs = vec![format!("checked-out file://{} {commit}", remote.display())];
    let report = site.solve();
    assert_eq!(report.log, "content\n.\n..\nfile\n", "{report:#?}");

    // Gone there, it is here still, for another tree of it too.
    store::remove_tree(&remote).expect("removes");
    store::remove_tree(&site.job.store.join("records")).expect("removes");
    assert_eq!(site.solve().manifest, report.manifest);
}
