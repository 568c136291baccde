//! The graphs that are solved, by name.

use diag::{Source, Span};
use llb::{
    Bind, Cache, CacheSharing, CopyAction, Definition, Exec, File, GitSource, Graph, HttpSource, LocalSource, Location,
    MkdirAction, MkfileAction, NetworkMode, Output, Owner, RmAction, Secret, SymlinkAction, Timestamp,
};
use oci::{Digest, Platform};

pub(crate) fn definition(name: &str, digest: Digest) -> Definition {
    let graph = Graph::new(Platform::host().expect("a known platform"));
    let base = graph.oci_layout("base", digest, None).with_name("base");
    let head = match name.split_once(' ').unwrap_or((name, "")) {
        ("base", _) => base,
        ("app", _) => app(&graph, &base),
        ("owners", _) => owners(&graph, &base),
        ("part", _) => part(&graph, &base),
        ("merged", _) => merged(&graph, &base),
        ("changes", _) => changes(&graph, &base),
        ("whole-difference", _) => whole_difference(&graph, &base),
        ("count", seconds) => count(&graph, &base, seconds),
        ("slow", file) => slow(&graph, &base, file),
        ("shell", script) => shell_step(&graph, &base, script),
        ("stranger", _) => {
            let file = MkfileAction { timestamp: Some(Timestamp::from_seconds(5)), ..MkfileAction::new("/file", "x") };
            graph.diff(graph.file(File::on(llb::Tree::Scratch).mkfile(file)), &base)
        }
        ("nothing", _) => graph.diff(&base, &base),
        ("dangling", _) => {
            let link = File::on(&base).symlink(SymlinkAction::new("/nowhere/at/all", "/dangling"));
            graph.file(File::on(graph.file(link)).rm(RmAction::new("/dangling")))
        }
        ("long", seconds) => shell_step(&graph, &base, &format!("echo begun; sleep {seconds}")),
        ("fail", script) => fail(&graph, &base, script),
        ("secret", _) => secret(&graph, &base),
        ("agent", _) => agent(&graph, &base),
        ("pulled", _) => graph.image("registry.invalid/base".parse().expect("a repository"), digest),
        ("made-on-base", _) => made_on(&graph, &base),
        ("made-on", repository) => {
            let image = graph.image(repository.parse().expect("a repository"), digest);
            made_on(&graph, &image)
        }
        ("downloaded", sha256) => downloaded(&graph, &base, sha256),
        ("checked-out", source) => checked_out(&graph, &base, source),
        ("deep", depth) => deep(&graph, depth.parse().expect("a number")),
        ("seeded", _) => seeded(&graph, &base),
        ("large", megabytes) => large(&graph, &base, megabytes),
        ("many", _) => many(&graph, &base),
        (name, _) => panic!("no graph {name}"),
    };
    graph.definition(&head).expect("a valid graph")
}

fn context(graph: &Graph) -> Output {
    graph.local(LocalSource::new("context")).with_name("context")
}

fn shell(script: &str) -> [&str; 3] {
    ["/bin/sh", "-ec", script]
}

/// Local files, a step that works on them, and a place for what comes of it.
fn app(graph: &Graph, base: &Output) -> Output {
    let context = context(graph);
    let script = "cat /src/app /src/sub/data > /out/built; mkdir -p /out/share; ln -s ../built /out/share/link; \
                  echo scratch > /tmp/x; cp /out/built /out/share/copy; chmod 750 /out/share; ls /src";
    let built = graph.exec(
        Exec::on(base, shell(script))
            .network(NetworkMode::None)
            .mount("/src", Bind::new(&context).read_only())
            .mount("/out", Bind::scratch())
            .with_name("build"),
    );
    let out = built.output("/out").expect("an output");
    let time = Timestamp::from_seconds(5);
    graph.file(
        File::on(base)
            .timestamp(time)
            .mkdir(MkdirAction {
                make_parents: true,
                owner: Some(Owner::id(1001, 1002)),
                ..MkdirAction::new("/srv/app")
            })
            .copy(out, "/built", "/srv/app/built")
            .copy(out, "/share", "/srv/app/share")
            .mkfile(MkfileAction { mode: 0o600, ..MkfileAction::new("/srv/app/config", "x = 1\n") })
            .symlink(SymlinkAction::new("/srv/app/config", "/etc/app.conf"))
            .with_name("place"),
    )
}

/// Owners of every kind of file, given by a step and by file operations.
fn owners(graph: &Graph, base: &Output) -> Output {
    let time = Timestamp::from_seconds(5);
    let own = |uid, gid| Some(Owner::id(uid, gid));
    let made = graph.file(
        File::on(base)
            .timestamp(time)
            .mkdir(MkdirAction { owner: own(1001, 1002), ..MkdirAction::new("/d") })
            .mkfile(MkfileAction { owner: own(7, 8), ..MkfileAction::new("/d/file", "x") })
            .symlink(SymlinkAction { owner: own(9, 10), ..SymlinkAction::new("file", "/d/link") })
            .with_name("make"),
    );
    graph.file(
        File::on(base)
            .timestamp(time)
            .copy(&made, "/d", "/copied")
            .copy_with(
                &made,
                CopyAction { owner: own(11, 12), timestamp: Some(time), ..CopyAction::new("/d", "/chowned") },
            )
            .with_name("copy"),
    )
}

/// A step that sees a part of the context only.
fn part(graph: &Graph, base: &Output) -> Output {
    let context = context(graph);
    let copied = graph.file(File::on(llb::Tree::Scratch).copy(&context, "/sub", "/sub").with_name("take sub"));
    let direct = graph.exec(
        Exec::on(base, shell("cat /part/data > /direct"))
            .mount("/part", Bind::new(&context).selector("/sub").read_only())
            .with_name("direct"),
    );
    graph
        .exec(
            Exec::on(direct.rootfs(), shell("cat /sub/sub/data > /result"))
                .mount("/sub", Bind::new(&copied).read_only())
                .with_name("through a copy"),
        )
        .rootfs()
        .clone()
}

/// Trees laid over the base, one of which removes what another brings.
fn merged(graph: &Graph, base: &Output) -> Output {
    let time = Timestamp::from_seconds(5);
    let scratch = || File::on(llb::Tree::Scratch).timestamp(time);
    let first = graph.file(
        scratch()
            .mkdir(MkdirAction::new("/opt"))
            .mkfile(MkfileAction::new("/opt/first", "first"))
            .mkfile(MkfileAction::new("/opt/both", "from the first"))
            .with_name("first"),
    );
    let second = graph.file(
        scratch()
            .mkdir(MkdirAction::new("/opt"))
            .mkfile(MkfileAction::new("/opt/both", "from the second"))
            .with_name("second"),
    );
    let removed = graph.file(File::on(base).rm(RmAction::new("/etc/passwd")).with_name("remove"));
    let removal = graph.diff(base, &removed);
    graph.merge(base, [&first, &second, &removal]).with_name("merge")
}

/// What a step changed on the base, alone.
fn changes(graph: &Graph, base: &Output) -> Output {
    let script = "echo new > /etc/new; rm /etc/passwd; mkdir /made; echo x > /made/x";
    let step = graph.exec(Exec::on(base, shell(script)).with_name("change"));
    graph.diff(base, step.rootfs()).with_name("diff")
}

/// Two trees that were not made of each other.
fn whole_difference(graph: &Graph, base: &Output) -> Output {
    let time = Timestamp::from_seconds(5);
    let tree = |name: &str, own: &str| {
        graph.file(
            File::on(llb::Tree::Scratch)
                .timestamp(time)
                .mkdir(MkdirAction::new("/dir"))
                .mkfile(MkfileAction::new("/dir/same", "same"))
                .mkfile(MkfileAction::new(own, own))
                .with_name(name),
        )
    };
    let (lower, upper) = (tree("lower", "/dir/only-below"), tree("upper", "/dir/only-above"));
    let difference = graph.diff(&lower, &upper).with_name("diff");
    graph.merge(base, [&lower, &difference]).with_name("merge")
}

/// A step that notes each of its runs in a cache directory.
fn count(graph: &Graph, base: &Output, seconds: &str) -> Output {
    let script = format!("echo ran >> /count/runs; cat /count/runs; sleep {seconds}; echo done > /done");
    graph
        .exec(
            Exec::on(base, shell(&script))
                .mount("/count", Cache::new("count", CacheSharing::Shared))
                .with_name("count"),
        )
        .rootfs()
        .clone()
}

/// Steps that take a while; the second says in the cache that it has begun.
fn slow(graph: &Graph, base: &Output, seconds: &str) -> Output {
    let first = graph
        .exec(Exec::on(base, shell("echo one > /one; mkdir -p /deep/tree; echo x > /deep/tree/x")).with_name("one"));
    let script =
        format!("echo two > /two; rm -r /deep; echo begun > /note/begun; sleep {seconds}; echo three > /three");
    graph
        .exec(
            Exec::on(first.rootfs(), shell(&script))
                .mount("/note", Cache::new("note", CacheSharing::Shared))
                .with_name("two"),
        )
        .rootfs()
        .clone()
}

fn shell_step(graph: &Graph, base: &Output, script: &str) -> Output {
    graph.exec(Exec::on(base, shell(script)).with_name("step")).rootfs().clone()
}

/// A step that fails as told, beside one that takes long.
fn fail(graph: &Graph, base: &Output, script: &str) -> Output {
    let text = "line one\n[step]\nrun = \"false\"\n";
    let location = Location::new(&Source::new("recipe.toml", text), Span::new(9..15));
    let failing = graph.exec(Exec::on(base, shell(script)).with_name("[app] fail").with_location(location));
    let long = graph.exec(Exec::on(base, shell("sleep 60; echo x > /x")).with_name("long"));
    graph.merge(failing.rootfs(), [graph.diff(base, long.rootfs())]).with_name("merge")
}

fn secret(graph: &Graph, base: &Output) -> Output {
    let exec = Exec::on(base, shell("cat /run/token > /dev/null; stat -c '%a %s' /run/token > /seen"))
        .mount("/run/token", Secret::new("token"))
        .with_name("secret");
    graph.exec(exec).rootfs().clone()
}

fn agent(graph: &Graph, base: &Output) -> Output {
    let exec = Exec::on(base, shell("true")).mount("/agent", llb::Ssh::new("default")).with_name("agent");
    graph.exec(exec).rootfs().clone()
}

/// A file and a step on an image.
fn made_on(graph: &Graph, image: &Output) -> Output {
    let time = Timestamp::from_seconds(5);
    let file = graph.file(File::on(image).timestamp(time).mkfile(MkfileAction::new("/etc/motd", "hello\n")));
    graph.exec(Exec::on(&file, shell("cat /etc/motd > /seen; rm /etc/passwd"))).rootfs().clone()
}

/// A file by HTTP, looked at by a step.
fn downloaded(graph: &Graph, base: &Output, sha256: &str) -> Output {
    let mut source = HttpSource::new("https://files.invalid/some/file.bin", sha256.parse().expect("a digest"));
    (source.perm, source.uid, source.gid) = (Some(0o640), 3, 4);
    let file = graph.http(source).with_name("download");
    let exec = Exec::on(base, shell("stat -c '%n %a %u:%g %Y' /in/file.bin; ls /in"));
    let exec = exec.mount("/in", Bind::new(&file).read_only()).with_name("look");
    graph.merge(graph.exec(exec).rootfs(), [&file])
}

/// A commit, looked at by a step.
fn checked_out(graph: &Graph, base: &Output, source: &str) -> Output {
    let (remote, commit) = source.split_once(' ').expect("a remote and a commit");
    let commit = commit.parse().expect("a commit");
    let git = GitSource { remote: remote.to_owned(), commit, subdir: None, keep_git_dir: false };
    let exec = Exec::on(base, shell("cat /in/file; ls -a /in"));
    let exec = exec.mount("/in", Bind::new(graph.git(git).with_name("check out")).read_only()).with_name("look");
    graph.exec(exec).rootfs().clone()
}

/// Many steps, each on what the one before left.
fn deep(graph: &Graph, depth: usize) -> Output {
    let time = Timestamp::from_seconds(5);
    let made = graph.file(File::on(llb::Tree::Scratch).timestamp(time).mkfile(MkfileAction::new("/file", "x")));
    (0..depth).fold(made, |tree, number| {
        let touched = Timestamp::from_seconds(i64::try_from(number).expect("it is small"));
        let file = MkfileAction::new("/file", if number % 2 == 0 { "x" } else { "y" });
        graph.file(File::on(&tree).timestamp(touched).mkfile(file))
    })
}

/// A cache that holds something at first.
fn seeded(graph: &Graph, base: &Output) -> Output {
    let seed = graph.file(File::on(llb::Tree::Scratch).mkfile(MkfileAction::new("/count", "seed\n")).with_name("seed"));
    let script = "echo more >> /cache/count; cat /cache/count";
    graph
        .exec(
            Exec::on(base, shell(script))
                .mount("/cache", Cache::new("seeded", CacheSharing::Locked).seed(&seed))
                .ignore_cache()
                .with_name("use"),
        )
        .rootfs()
        .clone()
}

/// A step that leaves a large file, as slow to compress as can be.
fn large(graph: &Graph, base: &Output, megabytes: &str) -> Output {
    let script = format!("head -c {megabytes}M /dev/urandom > /large");
    graph.exec(Exec::on(base, shell(&script)).with_name("large")).rootfs().clone()
}

/// Several steps beside each other, and a chain of twelve.
fn many(graph: &Graph, base: &Output) -> Output {
    let parts: Vec<Output> = (0..4)
        .map(|number| {
            let script = format!("echo {number} > /out/part{number}");
            let exec =
                Exec::on(base, shell(&script)).mount("/out", Bind::scratch()).with_name(format!("part {number}"));
            graph.exec(exec).output("/out").expect("an output").clone()
        })
        .collect();
    let mut tree = base.clone();
    for number in 0..12 {
        let file = MkfileAction::new(format!("/step{number}"), format!("{number}"));
        tree = graph.file(
            File::on(&tree).timestamp(Timestamp::from_seconds(5)).mkfile(file).with_name(format!("step {number}")),
        );
    }
    graph.merge(&tree, &parts).with_name("merge")
}
