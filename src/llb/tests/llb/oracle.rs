//! The same graphs built with `bollard-llb`, an independent port of BuildKit's own client: equal digests, vertex by
//! vertex. It always takes the root filesystem as a writable mount and has one action per file op.

use std::collections::BTreeSet;

use bollard_llb as oracle;
use llb::*;
use oci::{Digest, Platform};

const DEBIAN: &str = "docker.io/library/debian@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn graph() -> Graph {
    Graph::new(Platform::LINUX_AMD64)
}

fn debian() -> Output {
    let reference: oci::Reference = DEBIAN.parse().expect("a reference");
    graph().image(reference.repository, reference.digest.expect("a digest"))
}

fn assert_same(ours: &Output, theirs: &oracle::State) {
    let ours = graph().definition(ours).expect("valid");
    let options = oracle::MarshalOpts::linux_amd64().with_local_unique_id("unique");
    let theirs = theirs.marshal(options).expect("marshals").to_pb();
    let digests = |def: &[Vec<u8>]| def.iter().map(Digest::of).collect::<BTreeSet<_>>();
    let encoded = ours.to_pb();
    assert_eq!(digests(&encoded.def), digests(&theirs.def), "\n{}", ours.to_text());
    assert_eq!(encoded.def.last(), theirs.def.last());
}

fn oracle_debian() -> oracle::State {
    oracle::image(DEBIAN).expect("an image")
}

#[test]
fn images() {
    assert_same(&debian(), &oracle_debian());
}

#[test]
fn local_directories() {
    let ours = graph().local(LocalSource {
        include: vec!["src/**".to_owned(), "quote\"back\\slash\n".to_owned()],
        exclude: vec!["target".to_owned()],
        follow_paths: vec!["a".to_owned(), "b".to_owned()],
        shared_key_hint: Some("hint".to_owned()),
        unique: Some("unique".to_owned()),
        ..LocalSource::new("context")
    });
    let theirs = oracle::Local::new("context")
        .and_then(|local| local.with_include_patterns(["src/**", "quote\"back\\slash\n"]))
        .and_then(|local| local.with_exclude_patterns(["target"]))
        .and_then(|local| local.with_follow_paths(["a", "b"]))
        .and_then(|local| local.with_shared_key_hint("hint"))
        .expect("a local source");
    assert_same(&ours, &theirs.into());
}

#[test]
fn commands_with_every_kind_of_mount() {
    let context = LocalSource { unique: Some("unique".to_owned()), ..LocalSource::new("context") };
    let done = graph().exec(
        Exec::on(&debian(), ["/bin/sh", "-c", "make \"all\""])
            .env("A", "1")
            .env("B", "2=3")
            .env("A", "4")
            .cwd("/src/")
            .network(NetworkMode::None)
            .mount("/cache", Cache::new("c", CacheSharing::Locked))
            .mount("/empty", Bind::scratch())
            .mount("/src", Bind::new(graph().local(context)))
            .mount("/run/secrets/s", Secret::new("s").optional().owner(1, 2).mode(0o440))
            .mount("/ssh", Ssh::new("default")),
    );
    let options = oracle::RunOpts::from(oracle::Shlex::from_args(["/bin/sh", "-c", "make \"all\""]))
        .with_env("B", "2=3")
        .with_env("A", "4")
        .with_net(oracle::NetMode::None);
    let secret = oracle::AddSecret::new("s").with_target("/run/secrets/s").with_optional(true);
    let theirs = oracle_debian()
        .dir("/src")
        .run(options)
        .add_mount_cache("/cache", "c", oracle::CacheSharingMode::Locked)
        .add_mount_scratch("/empty")
        .add_mount("/src", oracle::local("context").expect("a local source"))
        .add_secret("s", secret.with_uid(1).with_gid(2).with_mode(0o440))
        .add_ssh_socket(oracle::AddSshSocket::new().with_id("default").with_target("/ssh"))
        .root()
        .expect("a root");
    assert_same(done.rootfs(), &theirs);
}

#[test]
fn file_operations() {
    let file = |tree: &Output, act: fn(File) -> File| graph().file(act(File::on(tree)));
    let mut ours = debian();
    let mut theirs = oracle_debian();
    let mut step = |act: fn(File) -> File, action: oracle::FileAction| {
        ours = file(&ours, act);
        theirs = theirs.clone().file(action, oracle::FileOpts::new()).expect("a file op");
        assert_same(&ours, &theirs);
    };
    step(|f| f.mkdir(MkdirAction::new("/a")), oracle::mkdir("/a", 0o755));
    step(
        |f| f.mkdir(MkdirAction { make_parents: true, ..MkdirAction::new("b/../c//d") }),
        oracle::mkdir("b/../c//d", 0o755).with_parents(true),
    );
    step(
        |f| f.mkfile(MkfileAction::new("/a/f", b"\0\xff".to_vec())),
        oracle::mkfile("/a/f", 0o644, b"\0\xff".to_vec()),
    );
    step(|f| f.symlink(SymlinkAction::new("../x", "/a/l")), oracle::symlink("../x", "/a/l"));
    step(|f| f.rm(RmAction::new("/a/f")), oracle::rm("/a/f"));
    step(
        |f| f.rm(RmAction { allow_not_found: true, allow_wildcard: true, ..RmAction::new("/a/*") }),
        oracle::rm("/a/*").with_allow_not_found(true).with_allow_wildcard(true),
    );
    step(|f| f.copy_with(debian(), CopyAction::new("/etc", "/b/")), oracle::copy(oracle_debian(), "/etc", "/b/"));
    let all = |f: File| {
        let copy = CopyAction {
            create_dest_path: true,
            follow_symlink: true,
            dir_copy_contents: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            exclude: vec!["x".to_owned()],
            ..CopyAction::new("/usr/*", "/b")
        };
        f.copy_with(debian(), copy)
    };
    let theirs_all = oracle::copy(oracle_debian(), "/usr/*", "/b")
        .with_create_dest_path(true)
        .with_follow_symlinks(true)
        .with_copy_dir_contents_only(true)
        .with_allow_wildcard(true)
        .with_allow_empty_wildcard(true)
        .with_exclude_pattern("x");
    step(all, theirs_all);
}

#[test]
fn merges() {
    let ours = |name: &str| graph().file(File::on(debian()).mkdir(MkdirAction::new(name)));
    let theirs =
        |name: &str| oracle_debian().file(oracle::mkdir(name, 0o755), oracle::FileOpts::new()).expect("a file op");
    let merged = graph().merge(&ours("/a"), [ours("/b"), ours("/a")]);
    let inputs = [theirs("/a"), theirs("/b"), theirs("/a")];
    assert_same(&merged, &oracle::merge(inputs, oracle::MergeOpts::new()).expect("a merge"));
}
