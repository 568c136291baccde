//! Random graphs on either engine. `CLAWBUILD_TEST_SOAK` makes it many more; `CLAWBUILD_TEST_SEED` takes one alone.

use std::fmt::Write as _;

use fastrand::Rng;
use llb::{
    Bind, CopyAction, Exec, File, Graph, LocalSource, MkdirAction, MkfileAction, Output, Owner, RmAction,
    SymlinkAction, Timestamp, Tree,
};
use oci::Platform;

use crate::Check;
use crate::site::Site;

pub(crate) const CHECKS: &[Check] = &[("random graphs", graphs)];

/// Names below the directory that is played in: few, so that they meet.
const NAMES: [&str; 9] = ["a", "b", "c", "d", "d/e", "d/f", "d/e/g", "h h", "ü"];
/// The latest is later than what layers may be dated at.
const TIMES: [&str; 4] = ["1", "1000.5", "1600000000", "2000000000"];

fn graphs() {
    let seeds: Vec<u64> = match (std::env::var("CLAWBUILD_TEST_SEED"), std::env::var_os("CLAWBUILD_TEST_SOAK")) {
        (Ok(seed), _) => vec![seed.parse().expect("a number")],
        (Err(_), None) => (0..25).collect(),
        (Err(_), Some(_)) => (0..300).collect(),
    };
    let site = Site::new();
    // Always of the same time: what a builder knows of an equal context of another time has that one's times.
    let script = "mkdir -p d/e w; echo a > a; echo b > d/f; ln -s a c; ln a b; chmod 640 d/f; ln -s d w/a; \
                  find . -exec touch -h -d @1500000000 {} +; touch -d @7 a d/f";
    let filled = std::process::Command::new("sh").args(["-ec", script]).current_dir(site.path("context")).status();
    assert!(filled.expect("sh").success());
    let (embedded, buildkit) = (site.embedded(), site.buildkit());
    let (mut same, mut failed, mut complaints) = (0, 0, String::new());
    for seed in seeds {
        let definition = definition(seed, &site);
        let ours = site.solve(&embedded, site.request_of(definition.clone()));
        let theirs = site.solve(&buildkit, site.request_of(definition.clone()));
        match (ours.result.is_ok(), theirs.result.is_ok()) {
            (false, false) => failed += 1,
            (true, true) => {
                let (ours, theirs) = (ours.image(), theirs.image());
                if ours == theirs {
                    same += 1;
                    continue;
                }
                let (ours, theirs) = (site.contents("embedded", &ours), site.contents("buildkit", &theirs));
                let _ = writeln!(complaints, "seed {seed}\n{}", definition.to_text());
                for (whose, these, those) in [("embedded", &ours, &theirs), ("buildkit", &theirs, &ours)] {
                    for line in these.iter().filter(|line| !those.contains(line)) {
                        let _ = writeln!(complaints, "only {whose}: {line}");
                    }
                }
            }
            (is_ours, _) => {
                let error = if is_ours { theirs.diagnostic() } else { ours.diagnostic() };
                let whose = if is_ours { "buildkit" } else { "embedded" };
                let text = definition.to_text();
                let _ = writeln!(complaints, "seed {seed}\n{text}\nonly {whose} fails: {}", error.message);
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
    assert!(same > 2 * failed, "{same} graphs were solved, {failed} failed on either engine");
}

/// A tree of the graph, and whether steps can run in it.
struct Grown {
    output: Output,
    is_root: bool,
}

fn definition(seed: u64, site: &Site) -> llb::Definition {
    let mut rng = Rng::with_seed(seed);
    let graph = Graph::new(Platform::host().expect("a known platform"));
    let base = Grown { output: graph.oci_layout("base", site.base(), None), is_root: true };
    let context = Grown { output: graph.local(LocalSource::new("context")), is_root: false };
    let mut trees = vec![base, context];
    for _ in 0..rng.usize(3..10) {
        let grown = grow(&mut rng, &graph, &trees);
        trees.push(grown);
    }
    let head = trees.pop().expect("it was grown");
    graph.definition(&head.output).expect("a valid graph")
}

fn grow(rng: &mut Rng, graph: &Graph, trees: &[Grown]) -> Grown {
    // Rather what came last, so that graphs get deep.
    let pick = |rng: &mut Rng| match rng.bool() {
        true => &trees[trees.len() - 1],
        false => &trees[rng.usize(..trees.len())],
    };
    let tree = pick(rng);
    match rng.usize(..10) {
        0..=3 => step(rng, graph, tree, &trees[0]),
        4..=7 => {
            let other = pick(rng);
            let onto_scratch = rng.usize(..6) == 0;
            let file = match onto_scratch {
                true => File::on(Tree::Scratch),
                false => File::on(&tree.output),
            };
            let mut file = file;
            for _ in 0..rng.usize(1..4) {
                file = action(rng, file, other);
            }
            Grown { output: graph.file(file), is_root: tree.is_root && !onto_scratch }
        }
        8 => {
            let others: Vec<&Output> = (0..rng.usize(1..3)).map(|_| &pick(rng).output).collect();
            Grown { output: graph.merge(&tree.output, others), is_root: tree.is_root }
        }
        _ => {
            let lower = pick(rng);
            if lower.output.edge() == tree.output.edge() {
                // BuildKit 0.33 dies of file operations on what is nothing at all.
                return step(rng, graph, tree, &trees[0]);
            }
            Grown { output: graph.diff(&lower.output, &tree.output), is_root: false }
        }
    }
}

fn name(rng: &mut Rng) -> &'static str {
    NAMES[rng.usize(..NAMES.len())]
}

fn mode(rng: &mut Rng) -> u32 {
    [0o644, 0o755, 0o600, 0o1777, 0o4755, 0o2750, 0o000][rng.usize(..7)]
}

/// A step that plays in its root or in a tree it mounts.
fn step(rng: &mut Rng, graph: &Graph, tree: &Grown, base: &Grown) -> Grown {
    let mut script = "mkdir -p /w; cd /w\n".to_owned();
    for _ in 0..rng.usize(1..7) {
        let (one, other, mode, time) = (name(rng), name(rng), mode(rng), TIMES[rng.usize(..TIMES.len())]);
        let number = rng.u8(..);
        let line = match rng.usize(..13) {
            0 => format!("mkdir -p '{one}'"),
            1 => format!("echo {number} > '{one}'"),
            2 => format!("echo {number} >> '{one}'"),
            3 => format!("rm -rf '{one}'"),
            4 => format!("ln -sfn '{other}' '{one}'"),
            5 => format!("ln -f '{other}' '{one}'"),
            6 => format!("mv -f '{other}' '{one}'"),
            7 => format!("chmod {mode:o} '{one}'"),
            8 => format!("chown -h {number}:{} '{one}'", number / 2),
            9 => format!("touch -h -d @{time} '{one}'"),
            10 => format!("cp -a '{other}' '{one}'"),
            11 => format!("mkdir -p '{one}'; touch -d @{time} '{one}'; chmod {mode:o} '{one}'"),
            _ => format!("rm -rf '{one}'; mkdir -p '{one}'; echo {number} > '{one}/{number}'"),
        };
        let _ = writeln!(script, "{{ {line}; }} 2> /dev/null || :");
    }
    let arguments = ["/bin/sh", "-c", script.as_str()];
    if tree.is_root && rng.usize(..3) > 0 {
        return Grown { output: graph.exec(Exec::on(&tree.output, arguments)).rootfs().clone(), is_root: true };
    }
    let executed = graph.exec(Exec::on(&base.output, arguments).mount("/w", Bind::new(&tree.output)));
    Grown { output: executed.output("/w").expect("it is written to").clone(), is_root: tree.is_root }
}

fn action(rng: &mut Rng, file: File, other: &Grown) -> File {
    let path = |rng: &mut Rng| format!("{}/{}", if rng.bool() { "/w" } else { "" }, name(rng));
    let maybe = |rng: &mut Rng| rng.usize(..3) == 0;
    let timestamp = if rng.bool() { Some(Timestamp::from_seconds(i64::from(rng.u16(..)))) } else { None };
    let owner = if maybe(rng) { Some(Owner::id(rng.u32(..9), rng.u32(..9))) } else { None };
    match rng.usize(..8) {
        0 => {
            let (mode, make_parents) = (mode(rng), true);
            file.mkdir(MkdirAction { mode, make_parents, owner, timestamp, ..MkdirAction::new(path(rng)) })
        }
        1 => {
            let file = file.mkdir(MkdirAction { make_parents: true, timestamp, ..MkdirAction::new("/w") });
            let path = format!("/{}{}", if rng.bool() { "w/" } else { "" }, ["a", "b", "new"][rng.usize(..3)]);
            let content = rng.u8(..).to_string();
            file.mkfile(MkfileAction { mode: mode(rng), owner, timestamp, ..MkfileAction::new(path, content) })
        }
        2 => {
            let path = format!("/link{}", rng.u8(..));
            file.symlink(SymlinkAction { owner, timestamp, ..SymlinkAction::new(name(rng), path) })
        }
        3 => {
            let allow_wildcard = rng.bool();
            let path = if allow_wildcard && rng.bool() { "/w/*".to_owned() } else { path(rng) };
            file.rm(RmAction { allow_not_found: true, allow_wildcard, ..RmAction::new(path) })
        }
        _ => {
            let wild = maybe(rng);
            let source = match wild {
                true => ["/*", "/w/*", "/w/[ab]", "/d*", "/w*"][rng.usize(..5)],
                false => "/",
            };
            let patterns = |rng: &mut Rng| -> Vec<String> {
                let some = ["**/a", "d", "d/**", "*", "!b", "w/b"];
                (0..rng.usize(1..3)).map(|_| some[rng.usize(..some.len())].to_owned()).collect()
            };
            let action = CopyAction {
                owner,
                timestamp,
                mode: maybe(rng).then(|| mode(rng)),
                follow_symlink: rng.bool(),
                dir_copy_contents: rng.bool(),
                create_dest_path: true,
                allow_wildcard: wild,
                allow_empty_wildcard: true,
                include: if maybe(rng) { patterns(rng) } else { Vec::new() },
                exclude: if maybe(rng) { patterns(rng) } else { Vec::new() },
                always_replace: rng.bool(),
                ..CopyAction::new(source, path(rng))
            };
            file.copy_with(&other.output, action)
        }
    }
}
