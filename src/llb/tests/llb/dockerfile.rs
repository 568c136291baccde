//! Definitions as Dockerfiles.

use llb::dockerfile::{ContextFile, Unsayable, render, write};
use llb::*;
use oci::{ContainerConfig, Digest, HealthCheck, Platform};

fn graph() -> Graph {
    Graph::new(Platform::LINUX_AMD64)
}

fn base() -> Output {
    graph().oci_layout("base/debian", Digest::of("debian"), None).with_name("[build] base/debian")
}

fn text(head: &Output) -> String {
    write(&graph().definition(head).expect("valid")).expect("can be said")
}

fn unsayable(head: &Output) -> Unsayable {
    write(&graph().definition(head).expect("valid")).expect_err("cannot be said").reason
}

#[test]
fn an_application() {
    let graph = graph();
    let base = base();
    let context = graph
        .local(LocalSource {
            include: vec!["src".to_owned(), "Cargo.*".to_owned()],
            exclude: vec!["**/*.tmp".to_owned()],
            ..LocalSource::new("context")
        })
        .with_name("load directory `context`");
    let archive = graph.http(HttpSource {
        filename: Some("tool.tgz".to_owned()),
        ..HttpSource::new("https://registry.test/tool/-/tool-1.0.0.tgz", Digest::of("tool"))
    });
    let unpacked = graph.file(File::on(Tree::Scratch).copy_with(
        &archive,
        CopyAction {
            attempt_unpack: true,
            create_dest_path: true,
            owner: Some(Owner::id(0, 0)),
            ..CopyAction::new("/tool.tgz", "/")
        },
    ));
    let prepared = graph.file(
        File::on(&base)
            .with_name("[build] prepare")
            .mkdir(MkdirAction { make_parents: true, ..MkdirAction::new("/work") })
            .mkfile(MkfileAction::new("/work/.npmrc", "registry=https://registry.test/\nEOF\n$HOME `x`\n"))
            .symlink(SymlinkAction::new("../lib/node", "/usr/bin/node")),
    );
    let fetched = graph.exec(
        Exec::on(&prepared, ["npm", "ci", "--ignore-scripts"])
            .env("PATH", "/usr/bin")
            .env("SSL_CERT_FILE", "/run/ca.crt")
            .cwd("/work")
            .hostname("clawbuild")
            .mount("/run/ca.crt", Secret::new("ca").mode(0o444).optional())
            .mount("/root/.npm", Cache::new("npm", CacheSharing::Locked))
            .with_name("[build] fetch"),
    );
    let built = graph.exec(
        Exec::on(fetched.rootfs(), ["/bin/sh", "-c", "npm run build && echo \"done $HOME\"\nexit 0"])
            .env("PATH", "/usr/bin")
            .cwd("/work")
            .hostname("clawbuild")
            .network(NetworkMode::None)
            .mount("/context", Bind::new(&context).read_only())
            .mount("/tool", Bind::new(&unpacked).selector("/package").read_only())
            .mount("/scratch", Bind::scratch().discard_changes())
            .mount("/tmp", Tmpfs::new().size(1 << 20))
            .with_name("[build] compile"),
    );
    let image = graph.file(
        File::on(&base)
            .with_name("[image] files")
            .copy_with(
                built.rootfs(),
                CopyAction {
                    owner: Some(Owner::id(1000, 1000)),
                    mode: Some(0o755),
                    dir_copy_contents: true,
                    exclude: vec!["**/*.map".to_owned()],
                    ..CopyAction::new("/work/dist", "/app/")
                },
            )
            .mkfile(MkfileAction { mode: 0o755, ..MkfileAction::new("/sbin/init", b"\x7fELF\0".to_vec()) })
            .mkdir(MkdirAction { mode: 0o700, owner: Some(Owner::id(1000, 1000)), ..MkdirAction::new("/data") }),
    );
    let slim = graph.file(File::on(&image).rm(RmAction::new("/usr/share/[doc]")).with_name("[image] remove"));
    let layer = graph.oci_layout("packages/app", Digest::of("packages"), None).with_name("[image] packages");
    let head = graph.merge(&graph.merge(&image, [graph.diff(&image, &slim)]), [layer]).with_name("[image] merge");
    let config = ContainerConfig {
        user: "1000:1000".to_owned(),
        env: vec!["PATH=/usr/bin".to_owned(), "MOTD=a \"b\" $c".to_owned()],
        exposed_ports: ["18789/tcp".to_owned()].into(),
        volumes: ["/data".to_owned()].into(),
        working_dir: "/app".to_owned(),
        entrypoint: vec!["/sbin/init".to_owned()],
        cmd: vec!["serve".to_owned()],
        labels: [("org.opencontainers.image.title".to_owned(), "app".to_owned())].into(),
        stop_signal: "SIGTERM".to_owned(),
        healthcheck: Some(HealthCheck {
            test: vec!["CMD".to_owned(), "/sbin/init".to_owned(), "health".to_owned()],
            interval: 30_000_000_000,
            retries: 3,
            ..HealthCheck::default()
        }),
    };
    let dockerfile = render(&graph.definition(&head).expect("valid"), Some(&config)).expect("can be said");
    insta::assert_snapshot!(dockerfile.text);
    let elf = format!("files/{}", Digest::of(b"\x7fELF\0").hex());
    assert_eq!(dockerfile.files.len(), 2);
    assert_eq!(dockerfile.files[&elf], ContextFile::File(b"\x7fELF\0".to_vec()));
    assert!(dockerfile.files.values().any(|file| *file == ContextFile::Symlink("../lib/node".to_owned())));
}

#[test]
fn stages_come_before_those_that_refer_to_them() {
    let graph = graph();
    let base = base();
    // The first chain goes on after the second was made, and takes from it.
    let first = graph.file(File::on(&base).mkdir(MkdirAction::new("/first")));
    let second = graph.file(File::on(Tree::Scratch).mkfile(MkfileAction::new("/second", "2\n")));
    let copy = CopyAction { dir_copy_contents: true, ..CopyAction::new("/second", "/first/") };
    let head = graph.file(File::on(&first).copy_with(&second, copy));
    let text = text(&head);
    let mut known = vec!["scratch".to_owned(), "base/debian".to_owned()];
    for line in text.lines() {
        for word in line.split([' ', ',']) {
            if let Some(stage) = word.strip_prefix("--from=").or_else(|| word.strip_prefix("from=")) {
                assert!(known.iter().any(|name| name == stage), "{line}\n{text}");
            }
        }
        if let Some(rest) = line.strip_prefix("FROM ") {
            let words: Vec<&str> = rest.split(' ').collect();
            assert!(known.iter().any(|name| name == words[0]), "{line}\n{text}");
            known.extend(words.get(2).map(|name| (*name).to_owned()));
        }
    }
}

#[test]
fn a_tree_used_twice_is_not_built_upon_in_place() {
    let graph = graph();
    let shared = graph.file(File::on(base()).mkdir(MkdirAction::new("/shared")));
    let one = graph.file(File::on(&shared).mkdir(MkdirAction::new("/one")));
    let copy = CopyAction { dir_copy_contents: true, ..CopyAction::new("/", "/both") };
    let text = text(&graph.file(File::on(&one).copy_with(&shared, copy)));
    let shared_stage = text.split("FROM ").find(|stage| stage.contains("/shared/")).expect("a stage");
    assert!(!shared_stage.contains("/one/"), "{text}");
}

#[test]
fn sources() {
    let graph = graph();
    let git = GitSource {
        remote: "https://forge.test/o/r.git".to_owned(),
        commit: "0123456789012345678901234567890123456789".parse().expect("a commit"),
        subdir: Some("sub".to_owned()),
        keep_git_dir: true,
    };
    let image = graph.image("debian".parse().expect("a repository"), Digest::of("x"));
    let head = graph.merge(&image, [graph.git(git.clone())]);
    assert!(text(&head).contains(
        "ADD --keep-git-dir=true https://forge.test/o/r.git#0123456789012345678901234567890123456789:sub /\n"
    ));
    assert!(text(&head).contains(&format!("FROM docker.io/library/debian@{}", Digest::of("x"))));
    let file = HttpSource { perm: Some(0o755), uid: 1, ..HttpSource::new("http://x.test/a/b?c", Digest::of("b")) };
    assert!(
        text(&graph.merge(&image, [graph.http(file)])).contains(" --chmod=0755 --chown=1:0 http://x.test/a/b?c /b\n")
    );
    let local = graph.git(GitSource { remote: "/srv/r.git".to_owned(), ..git });
    assert_eq!(unsayable(&local), Unsayable::GitRemote("/srv/r.git".to_owned()));
    let nameless = graph.http(HttpSource::new("https://x.test/", Digest::of("x")));
    assert_eq!(unsayable(&nameless), Unsayable::UrlWithoutName("https://x.test/".to_owned()));
    let followed = graph.local(LocalSource { follow_paths: vec!["a".to_owned()], ..LocalSource::new("c") });
    assert_eq!(unsayable(&followed), Unsayable::FollowPaths);
}

#[test]
fn what_has_no_instruction() {
    let graph = graph();
    let base = base();
    let made = graph.exec(Exec::on(&base, ["make"]).mount("/out", Bind::scratch()));
    assert_eq!(unsayable(made.output("/out").expect("an output")), Unsayable::MountOutput("/out".to_owned()));
    assert!(text(made.rootfs()).contains("--mount=type=bind,from="), "an output nobody uses does not matter");
    let other = graph.file(File::on(&base).mkdir(MkdirAction::new("/x")));
    assert_eq!(unsayable(&graph.diff(&base, &other)), Unsayable::Diff);
    let elsewhere = graph.merge(&graph.local(LocalSource::new("c")), [graph.diff(&base, &other)]);
    assert_eq!(unsayable(&elsewhere), Unsayable::Diff);
    let copy = |action: CopyAction| unsayable(&graph.file(File::on(&base).copy_with(&other, action)));
    let contents = CopyAction { dir_copy_contents: true, ..CopyAction::new("/a", "/b") };
    assert_eq!(copy(CopyAction::new("/a", "/b")), Unsayable::DirectoryItself);
    assert_eq!(copy(CopyAction { attempt_unpack: true, ..contents.clone() }), Unsayable::Unpack);
    assert_eq!(copy(CopyAction { always_replace: true, ..contents.clone() }), Unsayable::Replace);
    assert_eq!(copy(CopyAction { include: vec!["x".to_owned()], ..contents.clone() }), Unsayable::Include);
    assert!(matches!(
        copy(CopyAction { exclude: vec!["a b".to_owned()], ..contents }),
        Unsayable::Text { what: "a pattern", .. }
    ));
    let newline = graph.exec(Exec::on(&base, ["make"]).env("A", "1\n2"));
    assert!(matches!(unsayable(newline.rootfs()), Unsayable::Text { what: "a variable", .. }));
}

#[test]
fn paths_are_quoted() {
    let graph = graph();
    let copy = CopyAction { dir_copy_contents: true, ..CopyAction::new("/a $b", "/c[1] \"d\"") };
    let head = graph.file(File::on(base()).copy_with(graph.local(LocalSource::new("c")), copy));
    assert!(text(&head).contains(r#" ["/a \\$b","/c[1] \\\"d\\\""]"#), "{}", text(&head));
    let star = CopyAction { dir_copy_contents: true, ..CopyAction::new("/a*[b", "/c") };
    let head = graph.file(File::on(base()).copy_with(graph.local(LocalSource::new("c")), star));
    assert!(text(&head).contains(r#" ["/a[*][[]b","/c"]"#), "{}", text(&head));
}
