//! Random valid graphs.

use diag::{Source, Span};
use llb::*;
use oci::{Digest, Platform};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

/// Any text a path part, name or id may be; odd characters included.
pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[ -.0-~é中\n]{1,6}".prop_filter("not a dot path", |name| name != "." && name != "..")]
}

fn path() -> impl Strategy<Value = String> {
    vec(name(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn mode() -> impl Strategy<Value = u32> {
    0_u32..=0o7777
}

fn timestamp() -> impl Strategy<Value = Option<Timestamp>> {
    option::of(any::<i64>().prop_filter("-1 means none", |time| *time != -1).prop_map(Timestamp))
}

pub(crate) fn source() -> impl Strategy<Value = SourceOp> {
    let image = ("[a-z]{1,6}(/[a-z0-9]{1,6}){0,2}", digest()).prop_map(|(repository, digest)| {
        SourceOp::Image(ImageSource { repository: repository.parse().expect("a repository"), digest })
    });
    let layout = ("[a-z]{1,6}/[a-z]{1,6}", digest(), option::of(name()), option::of(name())).prop_map(
        |(name, digest, store, session)| SourceOp::OciLayout(OciLayoutSource { name, digest, store, session }),
    );
    let names = || vec(name(), 0..3);
    let local = (name(), names(), names(), names(), option::of(name()), option::of(name()), option::of(name()))
        .prop_map(|(name, include, exclude, follow_paths, shared_key_hint, session, unique)| {
            SourceOp::Local(LocalSource { name, include, exclude, follow_paths, shared_key_hint, session, unique })
        });
    let git = (
        "https://[a-z]{1,5}\\.test/[a-z]{1,5}\\.git",
        "[0-9a-f]{40}",
        option::of("[a-z]{1,4}(/[a-z]{1,4})?"),
        any::<bool>(),
    )
        .prop_map(|(remote, commit, subdir, keep_git_dir)| {
            let commit = commit.parse().expect("a commit");
            SourceOp::Git(GitSource { remote, commit, subdir, keep_git_dir })
        });
    let http = (
        "https?://[a-z]{1,5}/[a-z?&=]{0,8}",
        digest(),
        option::of(name()),
        option::of(mode()),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(|(url, checksum, filename, perm, uid, gid)| {
            SourceOp::Http(HttpSource { url, checksum, filename, perm, uid, gid })
        });
    prop_oneof![image, layout, local, git, http]
}

/// A number taken modulo the number of inputs; `None` where there are none.
fn pick(index: Option<Index>, inputs: usize) -> Option<InputIndex> {
    index.filter(|_| inputs > 0).map(|index| InputIndex(index.index(inputs)))
}

fn mount_kind() -> impl Strategy<Value = MountKind> {
    let file = || {
        (name(), any::<u32>(), any::<u32>(), mode(), any::<bool>())
            .prop_map(|(id, uid, gid, mode, optional)| SecretMount { id: SecretId(id), uid, gid, mode, optional })
    };
    let sharing = prop_oneof![Just(CacheSharing::Shared), Just(CacheSharing::Private), Just(CacheSharing::Locked)];
    prop_oneof![
        4 => Just(MountKind::Bind),
        1 => (name(), sharing).prop_map(|(id, sharing)| MountKind::Cache { id: CacheId(id), sharing }),
        1 => option::of(1..=u64::try_from(i64::MAX).expect("positive")).prop_map(|size| MountKind::Tmpfs { size }),
        1 => file().prop_map(MountKind::Secret),
        1 => file().prop_map(MountKind::Ssh),
    ]
}

fn exec(inputs: usize) -> impl Strategy<Value = Op> {
    let mounts =
        vec((mount_kind(), option::of(any::<Index>()), option::of(path()), any::<bool>(), any::<bool>()), 0..5);
    let env = proptest::collection::btree_map("[A-Z_]{1,5}", name(), 0..4);
    let network = prop_oneof![Just(NetworkMode::Sandbox), Just(NetworkMode::Host), Just(NetworkMode::None)];
    let meta = (vec(name(), 1..4), env, path(), option::of(name()), option::of(name()), network);
    (meta, any::<Index>(), mounts).prop_map(move |((args, env, cwd, user, hostname, network), root, extra)| {
        let mut outputs = 0..;
        let mut next = |wanted: bool| wanted.then(|| OutputIndex(outputs.next().expect("endless")));
        let mut mounts = vec![Mount {
            dest: "/".to_owned(),
            input: pick(Some(root), inputs),
            selector: None,
            readonly: false,
            output: next(true),
            kind: MountKind::Bind,
        }];
        for (number, (kind, input, selector, readonly, output)) in extra.into_iter().enumerate() {
            let (takes_tree, is_bind) = match &kind {
                MountKind::Bind => (true, true),
                MountKind::Cache { .. } => (true, false),
                MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => (false, false),
            };
            mounts.push(Mount {
                dest: format!("/m{number}"),
                input: pick(input, inputs).filter(|_| takes_tree),
                selector: selector.filter(|_| takes_tree),
                readonly,
                output: next(output && is_bind && !readonly),
                kind,
            });
        }
        let env = env.into_iter().map(|(name, value)| EnvVar { name, value }).collect();
        Op::Exec(ExecOp { args, env, cwd, user, hostname, network, mounts })
    })
}

fn owner(inputs: usize) -> impl Strategy<Value = Option<Owner>> {
    let account = || {
        option::of(prop_oneof![
            any::<u32>().prop_map(Account::Id),
            (name(), option::of(any::<Index>()))
                .prop_map(move |(name, input)| Account::Name { name, input: pick(input, inputs) }),
        ])
    };
    option::of((account(), account()).prop_map(|(user, group)| Owner { user, group }))
}

fn file_kind(inputs: usize) -> impl Strategy<Value = FileActionKind> {
    let flags = any::<[bool; 7]>();
    let patterns = (vec(name(), 0..3), vec(name(), 0..3));
    let slash = prop_oneof![Just(""), Just("/"), Just("/.")];
    let copy = (path(), path(), slash, owner(inputs), option::of(mode()), timestamp(), flags, patterns).prop_map(
        |(src, dest, slash, owner, mode, timestamp, flags, (include, exclude))| {
            FileActionKind::Copy(CopyAction {
                src,
                dest: dest + slash,
                owner,
                mode,
                timestamp,
                include,
                exclude,
                follow_symlink: flags[0],
                dir_copy_contents: flags[1],
                attempt_unpack: flags[2],
                create_dest_path: flags[3],
                allow_wildcard: flags[4],
                allow_empty_wildcard: flags[5],
                always_replace: flags[6],
            })
        },
    );
    let mkfile = (path(), mode(), vec(any::<u8>(), 0..40), owner(inputs), timestamp()).prop_map(
        |(path, mode, data, owner, timestamp)| {
            FileActionKind::Mkfile(MkfileAction { path, mode, data, owner, timestamp })
        },
    );
    let mkdir = (path(), mode(), any::<bool>(), owner(inputs), timestamp()).prop_map(
        |(path, mode, make_parents, owner, timestamp)| {
            FileActionKind::Mkdir(MkdirAction { path, mode, make_parents, owner, timestamp })
        },
    );
    let rm = (path(), any::<bool>(), any::<bool>()).prop_map(|(path, allow_not_found, allow_wildcard)| {
        FileActionKind::Rm(RmAction { path, allow_not_found, allow_wildcard })
    });
    let symlink = (name(), path(), owner(inputs), timestamp()).prop_map(|(target, path, owner, timestamp)| {
        FileActionKind::Symlink(SymlinkAction { target, path, owner, timestamp })
    });
    prop_oneof![copy, mkfile, mkdir, rm, symlink]
}

fn file(inputs: usize) -> impl Strategy<Value = Op> {
    vec((file_kind(inputs), option::of(any::<Index>()), any::<Index>(), any::<bool>()), 1..5).prop_map(move |drawn| {
        let last = drawn.len() - 1;
        let mut outputs = 0..;
        let actions = drawn.into_iter().enumerate().map(|(position, (kind, input, earlier, output))| {
            let tree = |input: Option<Index>| match pick(input, inputs) {
                Some(input) => ActionInput::Input(input),
                None if position > 0 => ActionInput::Action(earlier.index(position)),
                None => ActionInput::Scratch,
            };
            FileAction {
                input: tree(input),
                secondary_input: match &kind {
                    FileActionKind::Copy(_) => tree(Some(earlier)),
                    _ => ActionInput::Scratch,
                },
                output: (output || position == last).then(|| OutputIndex(outputs.next().expect("endless"))),
                kind,
            }
        });
        Op::File(FileOp { actions: actions.collect() })
    })
}

fn op(inputs: usize) -> BoxedStrategy<Op> {
    let all = || (0..inputs).map(InputIndex).collect::<Vec<_>>();
    match inputs {
        0 => prop_oneof![2 => source().prop_map(Op::Source), 1 => file(0)].boxed(),
        1 => prop_oneof![2 => exec(1), 2 => file(1)].boxed(),
        2 => prop_oneof![
            2 => exec(2),
            2 => file(2),
            1 => Just(Op::Diff(DiffOp { lower: Some(InputIndex(0)), upper: Some(InputIndex(1)) })),
            1 => Just(Op::Merge(MergeOp { inputs: all() })),
        ]
        .boxed(),
        _ => prop_oneof![2 => exec(inputs), 2 => file(inputs), 1 => Just(Op::Merge(MergeOp { inputs: all() }))].boxed(),
    }
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let description = proptest::collection::btree_map(name(), name(), 0..2);
    (option::of(name()), description, any::<bool>(), option::of(any::<bool>())).prop_map(
        |(name, mut description, ignore_cache, export_cache)| {
            if let Some(name) = name {
                description.insert(CUSTOM_NAME.to_owned(), name);
            }
            Metadata { description, ignore_cache, export_cache, ..Metadata::default() }
        },
    )
}

/// Vertices, inputs first, and the edge that is the result: the last vertex.
pub(crate) fn vertices() -> impl Strategy<Value = (Edge, Vec<Vertex>)> {
    let drawn = (0_usize..4).prop_flat_map(|inputs| (op(inputs), vec(any::<(Index, Index)>(), inputs), metadata()));
    let platform = prop_oneof![Just(Platform::LINUX_AMD64), Just(Platform::LINUX_ARM64), Just(Platform::LINUX_RISCV64)];
    ((source(), metadata()), vec(drawn, 0..8), platform).prop_map(|((source, described), drawn, platform)| {
        let mut vertices = vec![Vertex::new(Op::Source(source), Vec::new(), Some(platform), described)];
        for (op, inputs, metadata) in drawn {
            let inputs = inputs.iter().map(|(vertex, output)| {
                let producer = &vertices[vertex.index(vertices.len())];
                Edge { vertex: producer.digest(), output: OutputIndex(output.index(producer.op().outputs())) }
            });
            let inputs = inputs.collect();
            vertices.push(Vertex::new(op, inputs, Some(platform), metadata));
        }
        let last = vertices.last().expect("at least the source").digest();
        (Edge { vertex: last, output: OutputIndex(0) }, vertices)
    })
}

/// A definition with a source map.
pub(crate) fn definition() -> impl Strategy<Value = Definition> {
    let place = (any::<Index>(), "[a-zé\n]{0,20}", any::<(Index, Index)>());
    (vertices(), vec(place, 0..4)).prop_map(|((head, vertices), places)| {
        let mut definition = Definition::new(head, vertices, SourceMap::default()).expect("valid");
        for (vertex, text, (start, end)) in places {
            let vertex = definition.vertices()[vertex.index(definition.vertices().len())].digest();
            let source = Source::new(format!("{}.toml", text.len()), &text);
            let (start, end) = (start.index(text.len() + 1), end.index(text.len() + 1));
            definition = definition.with_location(vertex, Location::new(&source, Span { start, end }));
        }
        definition
    })
}
