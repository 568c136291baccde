//! Everything a layer can hold and everything that can be done to a tree, on either engine.

use llb::{
    Account, Bind, Cache, CacheSharing, CopyAction, Exec, File, Graph, LocalSource, MkdirAction, MkfileAction, Output,
    Owner, RmAction, SymlinkAction, Timestamp, Tmpfs, Tree,
};
use oci::Platform;

use crate::Check;
use crate::equal::same_image;
use crate::site::Site;

pub(crate) const CHECKS: &[Check] = &[
    ("torture: every kind of file", || same(files)),
    ("torture: changes to what is below", || same(changes)),
    ("torture: changes that are none", || same(nothing)),
    ("torture: hard links across layers", || same(links)),
    ("torture: mounts", || same(mounts)),
    ("torture: a read-only root", || same(read_only)),
    ("torture: users", || same(users)),
    ("torture: copies with every option", || same(copies)),
    ("torture: copies of patterns", || same(patterns)),
    ("torture: copies over what is there", || same(over)),
    ("torture: copies out of scratch and into it", || same(scratch)),
    ("torture: archives that are unpacked", || same(archives)),
    ("torture: removals", || same(removals)),
    ("torture: files made over others", || same(made_over)),
    ("torture: links that lead elsewhere", || same(links_elsewhere)),
    ("torture: merges and differences", || same(merges)),
    ("torture: differences of differences", || same(differences)),
    ("torture: a merge that hides", || same(hides)),
    ("torture: owners by name", || same(owners)),
    ("torture: one operation, many results", || same(actions)),
];

/// A graph's builder, its base and its context.
struct Bench {
    graph: Graph,
    base: Output,
    context: Output,
}

fn same(build: fn(&Bench) -> Output) {
    let site = Site::new();
    fill(&site);
    let graph = Graph::new(Platform::host().expect("a known platform"));
    let base = graph.oci_layout("base", site.base(), None);
    let context = graph.local(LocalSource::new("context"));
    let bench = Bench { graph, base, context };
    let head = build(&bench);
    let definition = bench.graph.definition(&head).expect("a valid graph");
    same_image(&site, || site.request_of(definition.clone()));
}

fn fill(site: &Site) {
    let context = site.path("context");
    let script = r#"
        mkdir -p tree/one/deep tree/two 'tree/with space' archives
        echo 1 > tree/one/1.txt; echo 2 > tree/one/2.md; echo 3 > tree/one/deep/3.txt; echo 4 > tree/two/4.txt
        echo s > 'tree/with space/file name'; ln -s one tree/link; ln -s ../two/4.txt tree/one/four; ln -s gone tree/dead
        echo x > tree/run; chmod 755 tree/run; chmod 700 tree/two; chmod 4711 tree/one/1.txt; : > tree/empty
        mkdir -p in/sub; echo a > in/a; echo b > in/sub/b; ln in/a in/hard; ln -s a in/soft; mkdir in/void
        touch -d @1000 in/a in/sub/b in/sub in/void; touch -h -d @2000 in/soft; chmod 640 in/sub/b
        tar -C in -cf archives/plain.tar .; tar -C in -czf archives/zipped.tar.gz .; tar -C in -cJf archives/packed.tar.xz .
        find tree -exec touch -h -d @1234567890.5 {} +
    "#;
    let output = std::process::Command::new("sh").args(["-ec", script]).current_dir(context).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Bench {
    fn run(&self, on: &Output, script: &str) -> Output {
        self.graph.exec(Exec::on(on, ["/bin/sh", "-ec", script])).rootfs().clone()
    }

    fn file(&self, on: impl Into<Tree>, fill: impl FnOnce(File) -> File) -> Output {
        self.graph.file(fill(File::on(on)))
    }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(seconds))
}

const EVERYTHING: &str = r#"
    mkdir -p /t/dir/sub /t/empty /t/sticky; chmod 1777 /t/sticky; chmod 2755 /t/dir; chmod 0 /t/empty
    echo plain > /t/plain; : > /t/zero; echo x > /t/suid; chmod 4755 /t/suid; echo y > /t/sgid; chmod 2755 /t/sgid
    ln -s plain /t/soft; ln -s /nowhere/at/all /t/dead; ln /t/plain /t/dir/hard; ln /t/plain /t/again
    echo n > "/t/with space"; echo n > "/t/ümläut"; echo n > '/t/back\slash'
    long=$(i=0; while [ $i -lt 20 ]; do echo -n 0123456789; i=$((i+1)); done); echo l > /t/$long; ln -s $long /t/long-link
    mkdir -p /t/$long.d/$long/$long; echo l > /t/$long.d/$long/$long/leaf
    echo o > /t/owned; chown 1234:5678 /t/owned; echo big > /t/large-id; chown 3000000:4000000 /t/large-id
    chown -h 7:8 /t/soft; touch -d @1 /t/old; touch -d @4000000000 /t/future; touch -h -d @77 /t/dead
    head -c 300000 /dev/zero > /t/zeros; echo 'ends' > /t/.hidden; echo w > /t/wh.odd
"#;

fn files(bench: &Bench) -> Output {
    bench.run(&bench.base, EVERYTHING)
}

fn changes(bench: &Bench) -> Output {
    let below = bench.run(&bench.base, EVERYTHING);
    let script = r#"
        rm -r /t/dir; mkdir /t/dir; echo new > /t/dir/new; rm /t/plain; rm -r /t/sticky; rm /t/dead; mkdir /t/dead
        chmod 600 /t/suid; touch -d @5 /t/sgid; rm /t/soft; ln -s zero /t/soft; mv /t/zero /t/moved
        rm -r /t/empty; echo file > /t/empty; echo appended >> /t/owned; chown 0:0 /t/large-id; rm /etc/passwd
        mkdir -p /bin/more; echo x > /bin/more/x; echo motd > /etc/motd; rm -r /t/0123*d
    "#;
    bench.run(&below, script)
}

fn nothing(bench: &Bench) -> Output {
    let one = bench.run(&bench.base, "echo x > /tmp/x; rm /tmp/x; mkdir /d; rm -r /d");
    let two = bench.run(&one, "cat /etc/passwd > /dev/null");
    let three = bench.run(&two, "chmod 644 /etc/passwd; chown 0:0 /etc/passwd");
    let four = bench.file(&three, |file| file.mkdir(MkdirAction { make_parents: true, ..MkdirAction::new("/tmp") }));
    bench.run(&four, "echo kept > /kept")
}

fn links(bench: &Bench) -> Output {
    let one = bench.run(&bench.base, "mkdir /l; echo a > /l/a; ln /l/a /l/b; ln /l/a /l/z; echo s > /l/single");
    let two = bench.run(&one, "ln /l/single /l/double; echo more >> /l/b");
    let three = bench.run(&two, "rm /l/a; ln /l/z /l/aa; chmod 600 /l/single; mkdir /l/in; ln /l/b /l/in/b");
    bench.run(&three, "mv /l/in/b /l/0; echo x > /l/x; ln /l/x /l/y; ln -s x /l/soft; ln /l/soft /l/softer")
}

fn mounts(bench: &Bench) -> Output {
    let script = "cat /in/1.txt > /out/copied; echo w > /scratch/w; echo t > /tmp/t; echo c >> /cache/c; ls /in > /list; \
                  echo lost > /throw/away; mkdir -p /out/d; echo e > /etc/inner; cat /lonely/4.txt >> /list";
    let executed = bench.graph.exec(
        Exec::on(&bench.base, ["/bin/sh", "-ec", script])
            .mount("/in", Bind::new(&bench.context).selector("/tree/one").read_only())
            .mount("/lonely", Bind::new(&bench.context).selector("tree/two").read_only())
            .mount("/out", Bind::new(&bench.context).selector("/in"))
            .mount("/scratch", Bind::scratch())
            .mount("/throw", Bind::new(&bench.context).discard_changes())
            .mount("/tmp", Tmpfs::new())
            .mount("/cache", Cache::new(format!("torture-{}", std::process::id()), CacheSharing::Private)),
    );
    let (out, scratch) = (executed.output("/out").unwrap(), executed.output("/scratch").unwrap());
    bench.file(executed.rootfs(), |file| file.copy(out, "/", "/from-out/").copy(scratch, "/w", "/w"))
}

fn read_only(bench: &Bench) -> Output {
    let exec = Exec::on(&bench.base, ["/bin/sh", "-ec", "if echo x > /x; then exit 3; fi; echo y > /out/y"]);
    let executed = bench.graph.exec(exec.read_only_rootfs().mount("/out", Bind::scratch()));
    bench.file(&bench.base, |file| file.copy(executed.output("/out").unwrap(), "/y", "/y"))
}

fn users(bench: &Bench) -> Output {
    let home = bench.file(&bench.base, |file| {
        file.mkdir(MkdirAction { owner: Some(Owner::id(1001, 1002)), ..MkdirAction::new("/home") })
    });
    let exec =
        Exec::on(&home, ["/bin/sh", "-ec", "echo mine > mine; mkdir -p d; stat -c '%u %g' . > who; echo $X > x"]);
    let first = bench.graph.exec(exec.user("app").cwd("/home").env("X", "a b")).rootfs().clone();
    let exec = Exec::on(&first, ["/bin/sh", "-ec", "echo > by-number; echo $HOME $PATH > env"]);
    bench.graph.exec(exec.user("1001:7").cwd("/home/d/made").env("PATH", "/bin").env("HOME", "/home")).rootfs().clone()
}

fn copies(bench: &Bench) -> Output {
    let option = |src: &str, dest: &str| CopyAction { create_dest_path: true, ..CopyAction::new(src, dest) };
    bench.file(&bench.base, |file| {
        file.copy_with(&bench.context, option("/tree", "/plain"))
            .copy_with(&bench.context, CopyAction { dir_copy_contents: true, ..option("/tree", "/contents") })
            .copy_with(&bench.context, CopyAction { owner: Some(Owner::id(5, 6)), ..option("/tree", "/owned") })
            .copy_with(&bench.context, CopyAction { mode: Some(0o750), ..option("/tree/one", "/moded") })
            .copy_with(&bench.context, CopyAction { timestamp: at(99), ..option("/tree", "/dated") })
            .copy_with(&bench.context, CopyAction { follow_symlink: true, ..option("/tree/link", "/followed") })
            .copy_with(&bench.context, option("/tree/link", "/not-followed"))
            .copy_with(&bench.context, CopyAction { follow_symlink: true, ..option("/tree/one/four", "/four") })
            .copy_with(&bench.context, option("/tree/run", "/deep/er/dir/"))
            .copy_with(&bench.context, option("/tree/run", "/deep/er/name"))
            .copy_with(&bench.context, option("/in", "/in"))
            .copy_with(&bench.context, option("/in/hard", "/in/harder"))
    })
}

fn patterns(bench: &Bench) -> Output {
    let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let option = |src: &str, dest: &str| CopyAction { create_dest_path: true, ..CopyAction::new(src, dest) };
    let wild = |src: &str, dest: &str| CopyAction { allow_wildcard: true, ..option(src, dest) };
    bench.file(&bench.base, |file| {
        file.copy_with(&bench.context, wild("/tree/one/*.txt", "/wild/"))
            .copy_with(&bench.context, wild("/tree/*", "/all/"))
            .copy_with(&bench.context, wild("/*/one/[12]*", "/classes/"))
            .copy_with(&bench.context, CopyAction { allow_empty_wildcard: true, ..wild("/none*", "/none/") })
            .copy_with(&bench.context, CopyAction { include: list(&["**/*.txt"]), ..option("/tree", "/included") })
            .copy_with(
                &bench.context,
                CopyAction { exclude: list(&["one/deep", "*.md"]), ..option("/tree", "/excluded") },
            )
            .copy_with(
                &bench.context,
                CopyAction {
                    include: list(&["one", "two"]),
                    exclude: list(&["**/*.txt", "!one/1.txt"]),
                    dir_copy_contents: true,
                    ..option("/tree", "/both")
                },
            )
    })
}

fn over(bench: &Bench) -> Output {
    let below =
        bench.run(&bench.base, "mkdir -p /o/one /o/two/4.txt /o/run; echo old > /o/one/1.txt; ln -s /etc /o/link");
    let contents = |dest: &str| CopyAction { dir_copy_contents: true, ..CopyAction::new("/tree", dest) };
    let replaced = CopyAction { always_replace: true, ..contents("/o") };
    bench.file(&below, |file| file.copy_with(&bench.context, replaced))
}

fn scratch(bench: &Bench) -> Output {
    let part = bench.file(Tree::Scratch, |file| {
        file.mkdir(MkdirAction { timestamp: at(3), ..MkdirAction::new("/s") })
            .mkfile(MkfileAction { timestamp: at(4), ..MkfileAction::new("/s/f", "f") })
            .copy(&bench.context, "/tree/one", "/s/one")
    });
    let whole = bench.file(Tree::Scratch, |file| file.copy(&part, "/", "/"));
    let outer = bench.file(Tree::Scratch, |file| file.copy(&part, "/s", "/").copy(&part, "/s/f", "/g"));
    bench.graph.merge(&bench.base, [&whole, &outer])
}

fn archives(bench: &Bench) -> Output {
    let unpack = |src: &str, dest: &str| CopyAction {
        attempt_unpack: true,
        create_dest_path: true,
        ..CopyAction::new(src, dest)
    };
    bench.file(&bench.base, |file| {
        file.copy_with(&bench.context, unpack("/archives/plain.tar", "/plain/"))
            .copy_with(&bench.context, unpack("/archives/zipped.tar.gz", "/zipped/"))
            .copy_with(&bench.context, unpack("/archives/packed.tar.xz", "/packed/"))
            .copy_with(&bench.context, unpack("/tree/run", "/no-archive"))
            .copy_with(
                &bench.context,
                CopyAction { owner: Some(Owner::id(3, 4)), ..unpack("/archives/plain.tar", "/owned/") },
            )
    })
}

fn removals(bench: &Bench) -> Output {
    let below = bench.run(&bench.base, EVERYTHING);
    let rm = |path: &str| RmAction::new(path);
    bench.file(&below, |file| {
        file.rm(rm("/t/soft"))
            .rm(rm("/t/plain"))
            .rm(rm("/t/dir"))
            .rm(RmAction { allow_not_found: true, ..rm("/t/never") })
            .rm(RmAction { allow_wildcard: true, ..rm("/t/s*") })
            .rm(RmAction { allow_wildcard: true, allow_not_found: true, ..rm("/x*") })
            .mkdir(MkdirAction::new("/t/dir"))
    })
}

fn made_over(bench: &Bench) -> Output {
    let below = bench.run(
        &bench.base,
        "mkdir /m; echo old > /m/file; chmod 640 /m/file; chown 3:4 /m/file; \
                  ln /m/file /m/other; mkdir /m/d; ln -s /m/aim /m/lead; echo aim > /m/aim",
    );
    bench.file(&below, |file| {
        file.mkfile(MkfileAction { timestamp: at(6), ..MkfileAction::new("/m/file", "new") })
            .mkfile(MkfileAction { timestamp: at(7), ..MkfileAction::new("/m/lead", "through a link") })
            .mkfile(MkfileAction { mode: 0o4755, ..MkfileAction::new("/m/suid", "s") })
            .mkdir(MkdirAction { mode: 0o700, ..MkdirAction::new("/m/d") })
            .mkdir(MkdirAction { mode: 0o2750, make_parents: true, timestamp: at(8), ..MkdirAction::new("/m/d/e/f") })
            .symlink(SymlinkAction {
                timestamp: at(7),
                owner: Some(Owner::id(1, 2)),
                ..SymlinkAction::new("d", "/m/l")
            })
    })
}

fn links_elsewhere(bench: &Bench) -> Output {
    let below =
        bench.run(&bench.base, "mkdir -p /real/sub; ln -s /real /abs; ln -s real /rel; ln -s /real/sub /to-sub");
    bench.file(&below, |file| {
        file.mkfile(MkfileAction { timestamp: at(5), ..MkfileAction::new("/abs/file", "1") })
            .mkdir(MkdirAction { make_parents: true, timestamp: at(5), ..MkdirAction::new("/rel/made/in") })
            .copy(&bench.context, "/tree/run", "/to-sub/run")
            .copy(&bench.context, "/tree/one", "/abs/")
            .copy(&bench.context, "/tree/link/1.txt", "/through-link")
            .rm(RmAction::new("/rel/file"))
    })
}

fn merges(bench: &Bench) -> Output {
    let step = |on: &Output, script: &str| bench.run(on, script);
    let one = step(&bench.base, "mkdir -p /m/a; echo one > /m/a/f; echo 1 > /m/1; ln /m/1 /m/1l");
    let two = step(&bench.base, "mkdir -p /m/a; echo two > /m/a/f; echo 2 > /m/2; chmod 700 /m");
    let gone = step(&one, "rm -r /m/a; rm /m/1");
    let changes = |upper: &Output, lower: &Output| bench.graph.diff(lower, upper);
    let merged = bench.graph.merge(&bench.base, [changes(&one, &bench.base), changes(&two, &bench.base)]);
    let again = bench.graph.merge(&merged, [changes(&gone, &one)]);
    bench.run(&again, "echo after > /m/after; ls -R /m > /listing")
}

fn differences(bench: &Bench) -> Output {
    let one = bench.run(&bench.base, "mkdir -p /d/x; echo 1 > /d/x/1; echo k > /d/keep");
    let two = bench.run(&one, "rm -r /d/x; echo 2 > /d/2");
    let three = bench.run(&two, "mkdir /d/x; echo 3 > /d/x/3; rm /d/keep");
    let all = bench.graph.diff(&bench.base, &three);
    let upper = bench.graph.diff(&one, &three);
    let scratch = bench.graph.diff(
        Tree::Scratch,
        &bench.file(Tree::Scratch, |file| {
            file.mkfile(MkfileAction { timestamp: at(2), ..MkfileAction::new("/lonely", "x") })
        }),
    );
    bench.graph.merge(&bench.base, [&all, &scratch, &upper])
}

fn hides(bench: &Bench) -> Output {
    let directory = bench.file(Tree::Scratch, |file| {
        file.mkdir(MkdirAction { timestamp: at(1), ..MkdirAction::new("/h") })
            .mkfile(MkfileAction { timestamp: at(1), ..MkfileAction::new("/h/f", "f") })
    });
    let file = bench.file(Tree::Scratch, |file| {
        file.mkfile(MkfileAction { timestamp: at(2), ..MkfileAction::new("/h", "a file now") })
    });
    let merged = bench.graph.merge(&bench.base, [&directory, &file]);
    let back = bench.graph.merge(&merged, [&directory]);
    bench.run(&back, "cat /h/f > /seen")
}

fn owners(bench: &Bench) -> Output {
    let account = |name: &str| Some(Account::Name { name: name.to_owned(), input: None });
    let _ = account;
    let grouped = bench.run(&bench.base, "echo 'staff:x:50:' > /etc/group");
    bench.file(&grouped, |file| {
        file.mkdir(MkdirAction { owner: Some(Owner::id(50, 60)), timestamp: at(5), ..MkdirAction::new("/own") })
            .copy_with(&bench.context, CopyAction { owner: Some(Owner::id(8, 9)), ..CopyAction::new("/in", "/own/in") })
            .copy_with(
                &bench.context,
                CopyAction {
                    owner: Some(Owner::id(8, 9)),
                    mode: Some(0o4755),
                    ..CopyAction::new("/tree/run", "/own/run")
                },
            )
    })
}

fn actions(bench: &Bench) -> Output {
    let mut file = File::on(&bench.base).timestamp(Timestamp::from_seconds(11));
    for number in 0..30 {
        file = file.mkdir(MkdirAction::new(format!("/many{number}")));
        file = file.mkfile(MkfileAction::new(format!("/many{number}/file"), format!("{number}")));
        if number % 3 == 0 {
            file = file.rm(RmAction::new(format!("/many{number}/file")));
        }
    }
    bench.graph.file(file.copy(&bench.context, "/tree", "/many0/tree"))
}
