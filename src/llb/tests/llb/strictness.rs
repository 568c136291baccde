//! What is refused, and how.

use bollard_buildkit_proto::pb;
use llb::*;
use oci::{Digest, Platform};
use prost::Message;

fn graph() -> Graph {
    Graph::new(Platform::LINUX_AMD64)
}

fn base() -> Output {
    graph().oci_layout("base/debian", Digest::of("debian"), None)
}

fn problem(head: &Output) -> OpError {
    match graph().definition(head) {
        Err(DefinitionError::Op { vertex, source }) => {
            assert_eq!(vertex, head.edge().vertex);
            source
        }
        other => panic!("{other:?}"),
    }
}

fn executed(exec: Exec) -> OpError {
    problem(graph().exec(exec).rootfs())
}

#[test]
fn ops_that_are_not_well_formed() {
    let base = base();
    assert_eq!(executed(Exec::on(&base, [""; 0])), OpError::NoArgs);
    assert_eq!(executed(Exec::on(&base, ["a\0b"])), OpError::Nul("an argument"));
    assert_eq!(executed(Exec::on(&base, ["a"]).env("A=B", "c")), OpError::EnvName("A=B".to_owned()));
    assert_eq!(executed(Exec::on(&base, ["a"]).mount("/", Tmpfs::new())), OpError::NoRootfs);
    assert_eq!(executed(Exec::on(&base, ["a"]).mount("/s", Secret::new(""))), OpError::Empty("the id of a secret"));
    assert_eq!(executed(Exec::on(&base, ["a"]).mount("/s", Secret::new("s").mode(0o10000))), OpError::Mode(0o10000));
    assert_eq!(problem(&graph().file(File::on(&base))), OpError::NoActions);
    let mkdir = MkdirAction { mode: 0o10000, ..MkdirAction::new("/x") };
    assert_eq!(problem(&graph().file(File::on(&base).mkdir(mkdir))), OpError::Mode(0o10000));
}

fn raw(op: Op, inputs: Vec<Edge>) -> Result<Definition, DefinitionError> {
    let vertex = Vertex::new(op, inputs, None, Metadata::default());
    let head = Edge { vertex: vertex.digest(), output: OutputIndex(0) };
    Definition::new(head, [base().vertex().clone(), vertex], SourceMap::default())
}

fn exec(mounts: Vec<Mount>) -> Op {
    Op::Exec(ExecOp {
        args: vec!["true".to_owned()],
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: None,
        hostname: None,
        network: NetworkMode::None,
        mounts,
    })
}

fn bind(dest: &str, output: Option<usize>) -> Mount {
    Mount {
        dest: dest.to_owned(),
        input: Some(InputIndex(0)),
        selector: None,
        readonly: false,
        output: output.map(OutputIndex),
        kind: MountKind::Bind,
    }
}

#[test]
fn indexes_past_the_end_and_mounts_that_hide_each_other() {
    let base = base().edge();
    let op_error = |result: Result<Definition, DefinitionError>| match result {
        Err(DefinitionError::Op { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    let root = || bind("/", Some(0));
    assert_eq!(op_error(raw(exec(vec![root()]), vec![])), OpError::InputIndex { index: 0, inputs: 0 });
    assert_eq!(op_error(raw(exec(vec![root(), bind("/a", Some(2))]), vec![base])), OpError::OutputIndexes);
    assert_eq!(
        op_error(raw(exec(vec![root(), bind("/a", None), bind("/a", None)]), vec![base])),
        OpError::MountTwice("/a".to_owned())
    );
    assert_eq!(
        op_error(raw(exec(vec![root(), bind("/a/b", None), bind("/a", None)]), vec![base])),
        OpError::MountOrder { inner: "/a/b".to_owned(), outer: "/a".to_owned() }
    );
    assert!(raw(exec(vec![root(), bind("/a-b", None), bind("/a", None)]), vec![base]).is_ok());
    assert_eq!(op_error(raw(exec(vec![root(), bind("/a/", None)]), vec![base])), OpError::Path("/a/".to_owned()));
    let merge = Op::Merge(MergeOp { inputs: vec![InputIndex(0)] });
    assert_eq!(op_error(raw(merge, vec![base])), OpError::Merge(1));
    let rm = |input| {
        let kind = FileActionKind::Rm(RmAction::new("/x"));
        FileAction { input, secondary_input: ActionInput::Scratch, output: Some(OutputIndex(0)), kind }
    };
    assert_eq!(
        op_error(raw(Op::File(FileOp { actions: vec![rm(ActionInput::Action(0))] }), vec![base])),
        OpError::ActionOrder { action: 0, used: 0 }
    );
    let edge = Edge { output: OutputIndex(1), ..base };
    assert_eq!(
        raw(Op::Diff(DiffOp { lower: None, upper: Some(InputIndex(0)) }), vec![edge]).map_err(|error| match error {
            DefinitionError::NoSuchOutput { output, outputs, .. } => (output, outputs),
            other => panic!("{other:?}"),
        }),
        Err((1, 1))
    );
    let nowhere = Edge { vertex: Digest::of("nothing"), output: OutputIndex(0) };
    assert!(matches!(
        raw(exec(vec![root()]), vec![nowhere]),
        Err(DefinitionError::DanglingInput { input, .. }) if input == nowhere.vertex
    ));
}

/// A definition as another client could have made it: `op` on top of a base, changed at will.
fn foreign(change: impl FnOnce(&mut pb::Op)) -> Result<Definition, DecodeError> {
    let done = graph().exec(Exec::on(&base(), ["make"]).mount("/c", Cache::new("c", CacheSharing::Shared)));
    let mut encoded = graph().definition(done.rootfs()).expect("valid").to_pb();
    let mut op = pb::Op::decode(encoded.def[1].as_slice()).expect("an op");
    change(&mut op);
    // Field order: everything but the operation, then the operation.
    let operation = pb::Op { op: op.op.take(), ..Default::default() };
    let mut bytes = op.encode_to_vec();
    bytes.extend(operation.encode_to_vec());
    encoded.metadata.clear();
    let head = pb::Input { digest: Digest::of(&bytes).to_string(), index: 0 };
    encoded.def[1] = bytes;
    encoded.def[2] = pb::Op { inputs: vec![head], ..Default::default() }.encode_to_vec();
    Definition::from_pb(&encoded)
}

fn exec_of(op: &mut pb::Op) -> &mut pb::ExecOp {
    match op.op.as_mut() {
        Some(pb::op::Op::Exec(exec)) => exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_the_model_does_not_have_are_refused_not_dropped() {
    assert!(foreign(|_| ()).is_ok());
    let field = |change: fn(&mut pb::Op)| match foreign(change) {
        Err(DecodeError::Vertex { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(|op| exec_of(op).security = 1), FieldError::Unsupported("exec.security"));
    assert_eq!(field(|op| exec_of(op).network = 7), FieldError::Value { field: "exec.network", value: "7".to_owned() });
    assert_eq!(
        field(|op| exec_of(op).secretenv.push(pb::SecretEnv::default())),
        FieldError::Unsupported("exec.secretenv")
    );
    assert_eq!(
        field(|op| exec_of(op).meta.as_mut().expect("meta").ulimit.push(pb::Ulimit::default())),
        FieldError::Unsupported("exec.meta.ulimit")
    );
    assert_eq!(
        field(|op| exec_of(op).meta.as_mut().expect("meta").remove_mount_stubs_recursive = false),
        FieldError::NotCanonical
    );
    assert_eq!(field(|op| exec_of(op).mounts[1].cache_opt = None), FieldError::Missing("mount.cacheOpt"));
    assert_eq!(
        field(|op| op.constraints.as_mut().expect("constraints").filter.push("x".to_owned())),
        FieldError::Unsupported("constraints.filter")
    );
    assert_eq!(
        field(|op| op.platform.as_mut().expect("platform").os = "windows".to_owned()),
        FieldError::Value { field: "platform", value: "windows/amd64".to_owned() }
    );
    let op = |change: fn(&mut pb::Op)| foreign(change).expect_err("refused");
    assert!(matches!(op(|op| exec_of(op).mounts[0].input = 3), DecodeError::Invalid(DefinitionError::Op { .. })));
}

#[test]
fn order_is_checked() {
    let done = graph().exec(Exec::on(&base(), ["make"]));
    let good = graph().definition(done.rootfs()).expect("valid").to_pb();
    let decode = |change: fn(&mut pb::Definition)| {
        let mut encoded = good.clone();
        change(&mut encoded);
        Definition::from_pb(&encoded).expect_err("refused")
    };
    assert_eq!(decode(|d| d.def.clear()), DecodeError::Empty);
    assert!(matches!(decode(|d| _ = d.def.pop()), DecodeError::Terminal(_)));
    assert!(matches!(decode(|d| d.def.swap(0, 1)), DecodeError::Order { .. }));
    assert!(matches!(decode(|d| d.def.insert(1, d.def[0].clone())), DecodeError::Duplicate { .. }));
    let beheaded = decode(|d| {
        d.def.remove(1);
        d.metadata.clear();
    });
    assert!(matches!(beheaded, DecodeError::Invalid(DefinitionError::DanglingInput { .. })), "{beheaded:?}");
    assert!(matches!(
        decode(|d| _ = d.metadata.insert("sha256:00".to_owned(), pb::OpMetadata::default())),
        DecodeError::Metadata(_)
    ));
    assert!(matches!(
        decode(|d| d.metadata.values_mut().for_each(|m| _ = m.caps.insert("exec.flying".to_owned(), true))),
        DecodeError::Vertex { source: FieldError::Value { field: "metadata.caps", .. }, .. }
    ));
    let unused = decode(|d| {
        let other = Graph::new(Platform::LINUX_AMD64).local(LocalSource::new("unused"));
        d.def.insert(0, other.vertex().encoded().to_vec());
    });
    assert!(matches!(unused, DecodeError::Unreachable { .. }));
}
