//! From the model to protobuf bytes, in the field order BuildKit's own encoder writes.
//!
//! BuildKit re-encodes what it is sent and names vertices in its status stream by the result, so equal bytes keep the
//! digests equal. Go's encoder writes fields by number, but a oneof after all others: in `Op` that is platform (10)
//! and constraints (11) before the operation (2..=7). prost sorts the operation in front, hence [`op`].

use bollard_buildkit_proto::pb;
use oci::Platform;
use prost::Message;

use crate::exec::{ExecOp, NetworkMode};
use crate::file::{Account, ActionInput, FileAction, FileActionKind, FileOp, Owner};
use crate::mount::{CacheSharing, Mount, MountKind, SecretMount};
use crate::op::{InputIndex, Op, OutputIndex, Timestamp};
use crate::source::SourceOp;
use crate::source_attrs;
use crate::vertex::Edge;

/// `pb.Empty`: no input. Also "no output" (`pb.SkipOutput`), no mode and no time.
pub(crate) const NONE: i64 = -1;

/// The encoded `pb::Op`.
pub(crate) fn op(op: &Op, inputs: &[Edge], platform: Option<Platform>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for input in inputs {
        field(&mut bytes, 1, &edge(input));
    }
    if let Some(Platform { os: oci::Os::Linux, architecture }) = platform {
        let platform =
            pb::Platform { architecture: architecture.to_string(), os: "linux".to_owned(), ..Default::default() };
        field(&mut bytes, 10, &platform);
    }
    field(&mut bytes, 11, &pb::WorkerConstraints { filter: Vec::new() });
    match op {
        Op::Exec(exec) => field(&mut bytes, 2, &exec_op(exec)),
        Op::Source(source) => field(&mut bytes, 3, &source_op(source)),
        Op::File(file) => field(&mut bytes, 4, &file_op(file, inputs.len())),
        Op::Merge(merge) => {
            let inputs = merge.inputs.iter().map(|index| pb::MergeInput { input: input(Some(*index)) }).collect();
            field(&mut bytes, 6, &pb::MergeOp { inputs });
        }
        Op::Diff(diff) => {
            let lower = Some(pb::LowerDiffInput { input: input(diff.lower) });
            let upper = Some(pb::UpperDiffInput { input: input(diff.upper) });
            field(&mut bytes, 7, &pb::DiffOp { lower, upper });
        }
    }
    bytes
}

/// The encoded op that ends a definition: one input, no operation.
pub(crate) fn terminal(head: &Edge) -> Vec<u8> {
    let mut bytes = Vec::new();
    field(&mut bytes, 1, &edge(head));
    bytes
}

fn field(bytes: &mut Vec<u8>, tag: u32, message: &impl Message) {
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, bytes);
    message.encode_length_delimited(bytes).expect("a vector grows as needed");
}

fn edge(edge: &Edge) -> pb::Input {
    pb::Input { digest: edge.vertex.to_string(), index: signed(edge.output.0) }
}

fn signed(index: usize) -> i64 {
    i64::try_from(index).expect("indexes count elements of a list in memory")
}

fn input(index: Option<InputIndex>) -> i64 {
    index.map_or(NONE, |InputIndex(index)| signed(index))
}

fn output(index: Option<OutputIndex>) -> i64 {
    index.map_or(NONE, |OutputIndex(index)| signed(index))
}

fn source_op(source: &SourceOp) -> pb::SourceOp {
    let (identifier, attrs) = source_attrs::encode(source);
    pb::SourceOp { identifier, attrs }
}

fn exec_op(exec: &ExecOp) -> pb::ExecOp {
    let meta = pb::Meta {
        args: exec.args.clone(),
        env: exec.env.iter().map(|var| format!("{}={}", var.name, var.value)).collect(),
        cwd: exec.cwd.clone(),
        user: exec.user.clone().unwrap_or_default(),
        hostname: exec.hostname.clone().unwrap_or_default(),
        // Mount points the sandbox had to make do not stay in the tree.
        remove_mount_stubs_recursive: true,
        ..Default::default()
    };
    let network = match exec.network {
        NetworkMode::Sandbox => pb::NetMode::Unset,
        NetworkMode::Host => pb::NetMode::Host,
        NetworkMode::None => pb::NetMode::None,
    };
    pb::ExecOp {
        meta: Some(meta),
        mounts: exec.mounts.iter().map(mount).collect(),
        network: network.into(),
        security: pb::SecurityMode::Sandbox.into(),
        secretenv: Vec::new(),
        cdi_devices: Vec::new(),
    }
}

fn mount(mount: &Mount) -> pb::Mount {
    let mut encoded = pb::Mount {
        input: input(mount.input),
        selector: mount.selector.clone().unwrap_or_default(),
        dest: mount.dest.clone(),
        output: output(mount.output),
        readonly: mount.readonly,
        ..Default::default()
    };
    let mount_type = match &mount.kind {
        MountKind::Bind => pb::MountType::Bind,
        MountKind::Cache { id, sharing } => {
            let sharing = match sharing {
                CacheSharing::Shared => pb::CacheSharingOpt::Shared,
                CacheSharing::Private => pb::CacheSharingOpt::Private,
                CacheSharing::Locked => pb::CacheSharingOpt::Locked,
            };
            encoded.cache_opt = Some(pb::CacheOpt { id: id.0.clone(), sharing: sharing.into() });
            pb::MountType::Cache
        }
        MountKind::Tmpfs { size } => {
            let size = size.map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX));
            encoded.tmpfs_opt = Some(pb::TmpfsOpt { size });
            pb::MountType::Tmpfs
        }
        // BuildKit's client leaves the output of these two at 0 and its solver knows that they have none.
        MountKind::Secret(secret) => {
            let SecretMount { id, uid, gid, mode, optional } = secret.clone();
            encoded.output = 0;
            encoded.secret_opt = Some(pb::SecretOpt { id: id.0, uid, gid, mode, optional });
            pb::MountType::Secret
        }
        MountKind::Ssh(socket) => {
            let SecretMount { id, uid, gid, mode, optional } = socket.clone();
            encoded.output = 0;
            encoded.ssh_opt = Some(pb::SshOpt { id: id.0, uid, gid, mode, optional });
            pb::MountType::Ssh
        }
    };
    encoded.mount_type = mount_type.into();
    encoded
}

fn file_op(file: &FileOp, inputs: usize) -> pb::FileOp {
    pb::FileOp { actions: file.actions.iter().map(|action| file_action(action, inputs)).collect() }
}

fn file_action(action: &FileAction, inputs: usize) -> pb::FileAction {
    let tree = |input: ActionInput| match input {
        ActionInput::Scratch => NONE,
        ActionInput::Input(InputIndex(index)) => signed(index),
        ActionInput::Action(index) => signed(inputs + index),
    };
    let encoded = match &action.kind {
        FileActionKind::Copy(copy) => pb::file_action::Action::Copy(pb::FileActionCopy {
            src: copy.src.clone(),
            dest: copy.dest.clone(),
            owner: copy.owner.as_ref().map(owner),
            mode: copy.mode.map_or(-1, mode),
            follow_symlink: copy.follow_symlink,
            dir_copy_contents: copy.dir_copy_contents,
            attempt_unpack_docker_compatibility: copy.attempt_unpack,
            create_dest_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp: timestamp(copy.timestamp),
            include_patterns: copy.include.clone(),
            exclude_patterns: copy.exclude.clone(),
            always_replace_existing_dest_paths: copy.always_replace,
            mode_str: String::new(),
            required_paths: Vec::new(),
        }),
        FileActionKind::Mkfile(mkfile) => pb::file_action::Action::Mkfile(pb::FileActionMkFile {
            path: mkfile.path.clone(),
            mode: mode(mkfile.mode),
            data: mkfile.data.clone(),
            owner: mkfile.owner.as_ref().map(owner),
            timestamp: timestamp(mkfile.timestamp),
        }),
        FileActionKind::Mkdir(mkdir) => pb::file_action::Action::Mkdir(pb::FileActionMkDir {
            path: mkdir.path.clone(),
            mode: mode(mkdir.mode),
            make_parents: mkdir.make_parents,
            owner: mkdir.owner.as_ref().map(owner),
            timestamp: timestamp(mkdir.timestamp),
        }),
        FileActionKind::Rm(rm) => pb::file_action::Action::Rm(pb::FileActionRm {
            path: rm.path.clone(),
            allow_not_found: rm.allow_not_found,
            allow_wildcard: rm.allow_wildcard,
        }),
        FileActionKind::Symlink(symlink) => pb::file_action::Action::Symlink(pb::FileActionSymlink {
            oldpath: symlink.target.clone(),
            newpath: symlink.path.clone(),
            owner: symlink.owner.as_ref().map(owner),
            timestamp: timestamp(symlink.timestamp),
        }),
    };
    pb::FileAction {
        input: tree(action.input),
        secondary_input: tree(action.secondary_input),
        output: output(action.output),
        action: Some(encoded),
    }
}

/// Permission bits as the wire has them; twelve bits are all there are.
fn mode(mode: u32) -> i32 {
    i32::try_from(mode & 0o7777).expect("twelve bits fit")
}

fn timestamp(timestamp: Option<Timestamp>) -> i64 {
    timestamp.map_or(NONE, |Timestamp(nanoseconds)| nanoseconds)
}

fn owner(owner: &Owner) -> pb::ChownOpt {
    let account = |account: &Account| pb::UserOpt {
        user: Some(match account {
            Account::Id(id) => pb::user_opt::User::ById(*id),
            Account::Name { name, input: index } => {
                pb::user_opt::User::ByName(pb::NamedUserOpt { name: name.clone(), input: input(*index) })
            }
        }),
    };
    pb::ChownOpt { user: owner.user.as_ref().map(account), group: owner.group.as_ref().map(account) }
}
