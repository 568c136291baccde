//! What is found again, and what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::Check;
use crate::fixture::{ALL, ANY, Bench, Who};

pub(crate) const CHECKS: &[Check] = &[
    ("a_second_solve_finds_everything", ALL, second_solve),
    ("another_store_gives_the_same_image", ANY, another_store),
    ("what_is_not_read_does_not_count", ANY, unread_files),
    ("what_is_read_counts", ANY, read_files),
    ("no_cache_runs_every_step", ANY, no_cache),
    ("what_is_missing_or_torn_is_made_again", ANY, damaged),
    ("a_cache_begins_with_its_seed", ANY, seeded),
    ("results_are_good_for_the_next_boot", ANY, durable),
];

fn second_solve(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["app"]);
    let cold = site.solve();
    assert!(cold.has_run("build") && cold.has_run("place"), "{cold:#?}");
    assert_eq!(cold.hits, 0);
    let warm = site.solve();
    assert_eq!((warm.misses, warm.hits), (0, 4), "{warm:#?}");
    assert_eq!(warm.ran, [""; 0]);
    assert_eq!(warm.manifest, cold.manifest);
    // Another image of the same tree: the image is not known, but the vertex it is made of is.
    site.job.created = "2026-02-02T00:00:00Z".to_owned();
    let other = site.solve();
    assert_eq!((other.misses, other.hits), (0, 1), "{other:#?}");
    assert_eq!(other.layers, cold.layers);
    assert_ne!(other.manifest, cold.manifest);
}

fn another_store(bench: &Bench, who: Who) {
    let graphs = ["app", "owners", "merged", "changes", "many"];
    let [first, second] = [(); 2].map(|()| {
        let reports = bench.site(who, &graphs).solve_all();
        reports.iter().map(|report| report.manifest()).collect::<Vec<_>>()
    });
    assert_eq!(first, second);
}

fn unread_files(bench: &Bench, who: Who) {
    let site = bench.site(who, &["part"]);
    let cold = site.solve();
    site.write("other", "changed\n");
    let warm = site.solve();
    assert_eq!(warm.manifest, cold.manifest);
    assert!(warm.has_run("context"), "{warm:#?}");
    for step in ["take sub", "direct", "through a copy"] {
        assert!(!warm.has_run(step), "{step} has run: {warm:#?}");
    }
    // The way back is known under the first key already.
    site.write("other", "unused\n");
    assert_eq!(site.solve().misses, 0);
}

fn read_files(bench: &Bench, who: Who) {
    let site = bench.site(who, &["part"]);
    let cold = site.solve();
    site.write("sub/data", "changed\n");
    let changed = site.solve();
    assert_ne!(changed.manifest, cold.manifest);
    for step in ["take sub", "direct", "through a copy"] {
        assert!(changed.has_run(step), "{step} has not run: {changed:#?}");
    }
}

fn no_cache(bench: &Bench, who: Who) {
    let mut site = bench.site(who, &["count 0"]);
    assert_eq!(site.solve().log, "ran\n");
    assert_eq!(site.solve().log, "");
    site.job.no_cache = true;
    assert_eq!(site.solve().log, "ran\nran\n");
}

fn damaged(bench: &Bench, who: Who) {
    let site = bench.site(who, &["app"]);
    let whole = site.solve();
    let store = &site.job.store;

    // Snapshots gone, and with them what images are known: everything is made again.
    store::remove_tree(&store.join("records/images-v1")).expect("removes");
    for name in site.stored("snapshots") {
        store::remove_tree(&store.join("snapshots").join(name)).expect("removes");
    }
    let again = site.solve();
    assert!(again.has_run("place"), "{again:#?}");
    assert_eq!(again.manifest, whole.manifest);

    // Records torn.
    for bucket in ["images-v1", "vertices-v1", "layers-v1", "contents-v1"] {
        for fan in fs::read_dir(store.join("records").join(bucket)).expect("a bucket") {
            for record in fs::read_dir(fan.expect("an entry").path()).expect("records") {
                let path = record.expect("an entry").path();
                let bytes = fs::read(&path).expect("reads");
                fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
            }
        }
    }
    let again = site.solve();
    assert!(again.has_run("place"), "{again:#?}");
    assert_eq!(again.manifest, whole.manifest);

    // A layer of the base damaged: that is told, and healed by what the layout has.
    let base = bench.base().layers.swap_remove(0).digest;
    let path = store.join("blobs/sha256").join(base.hex());
    let mut bytes = fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
    fs::write(&path, &bytes).expect("writes");
    store::remove_tree(&store.join("records")).expect("removes");
    let error = site.solve().error().clone();
    assert_eq!(error.code, "store/mismatch", "{error:#?}");
    assert_eq!(site.solve().manifest, whole.manifest);
    // Cut short, it is replaced at once.
    fs::write(&path, &bytes[..middle]).expect("writes");
    store::remove_tree(&store.join("records")).expect("removes");
    assert_eq!(site.solve().manifest, whole.manifest);

    // A layer of the finished image gone, which its record names.
    let (layer, _) = whole.layers.last().expect("layers");
    fs::remove_file(store.join("blobs/sha256").join(layer.hex())).expect("removes");
    let again = site.solve();
    assert_eq!(again.manifest, whole.manifest);
    assert!(!site.blob(layer).is_empty());
}

fn seeded(bench: &Bench, who: Who) {
    let site = bench.site(who, &["seeded"]);
    assert_eq!(site.solve().log, "seed\nmore\n");
    assert_eq!(site.solve().log, "seed\nmore\nmore\n");
}

/// Records say that what they name was synced: those of a build that ended, and those it found that a killed one left.
fn durable(bench: &Bench, who: Who) {
    let site = bench.site(who, &["app"]);
    let records = || {
        let bucket = site.job.store.join("records/vertices-v1");
        let fans = fs::read_dir(bucket).expect("a bucket").map(|fan| fan.expect("an entry").path());
        let files = fans.flat_map(|fan| fs::read_dir(fan).expect("records")).map(|file| file.expect("an entry").path());
        let records = files.map(|path| (fs::read_to_string(&path).expect("reads"), path));
        records.filter(|(text, _)| text.contains("durable")).collect::<Vec<_>>()
    };
    site.solve();
    let written = records();
    assert!(!written.is_empty() && written.iter().all(|(text, _)| text.contains(r#""durable":true"#)), "{written:#?}");
    for (text, path) in &written {
        fs::write(path, text.replace(r#""durable":true"#, r#""durable":false"#)).expect("writes");
    }
    store::remove_tree(&site.job.store.join("records/images-v1")).expect("removes");
    assert_eq!(site.solve().misses, 0);
    let found = records().into_iter().filter(|(text, _)| text.contains(r#""durable":true"#)).count();
    assert_eq!(found, 1, "the one that was looked at");
}
