//! From protobuf to the model, refusing everything the model cannot say.

use std::fmt::Display;

use bollard_buildkit_proto::pb;
use oci::{Digest, Os, Platform};
use prost::Message;

use crate::caps::Cap;
use crate::encode::NONE;
use crate::exec::{EnvVar, ExecOp, NetworkMode};
use crate::file::{
    Account, ActionInput, CopyAction, FileAction, FileActionKind, FileOp, MkdirAction, MkfileAction, Owner, RmAction,
    SymlinkAction,
};
use crate::mount::{CacheId, CacheSharing, Mount, MountKind, SecretId, SecretMount};
use crate::op::{DiffOp, InputIndex, MergeOp, Op, OutputIndex, Timestamp};
use crate::source_attrs;
use crate::vertex::{Edge, Metadata, Vertex};

/// One field of an encoded op that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The bytes are not the protobuf message they should be.
    #[error("not a protobuf message")]
    Protobuf(#[from] prost::DecodeError),
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is used that clawbuild's model does not have.
    #[error("`{0}` is not supported")]
    Unsupported(&'static str),
    /// A field has a value it cannot have.
    #[error("`{field}` cannot be `{value}`")]
    Value {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// Encoded again, the op has other bytes and so would be another vertex.
    #[error("the encoding is not canonical")]
    NotCanonical,
}

impl FieldError {
    pub(crate) fn value(field: &'static str, value: impl Display) -> Self {
        Self::Value { field, value: value.to_string() }
    }
}

/// The vertex these bytes encode.
pub(crate) fn vertex(bytes: &[u8], metadata: Option<&pb::OpMetadata>) -> Result<Vertex, FieldError> {
    let encoded = pb::Op::decode(bytes)?;
    let inputs = encoded.inputs.iter().map(edge).collect::<Result<Vec<_>, _>>()?;
    let platform = encoded.platform.as_ref().map(platform).transpose()?;
    if encoded.constraints.as_ref().is_some_and(|constraints| !constraints.filter.is_empty()) {
        return Err(FieldError::Unsupported("constraints.filter"));
    }
    let op = match encoded.op.ok_or(FieldError::Missing("op"))? {
        pb::op::Op::Source(source) => Op::Source(source_attrs::decode(source)?),
        pb::op::Op::Exec(exec) => Op::Exec(exec_op(exec)?),
        pb::op::Op::File(file) => Op::File(file_op(file, inputs.len())?),
        pb::op::Op::Merge(merge) => {
            let inputs = merge.inputs.iter().map(|merged| required("merge.inputs", merged.input));
            Op::Merge(MergeOp { inputs: inputs.collect::<Result<_, _>>()? })
        }
        pb::op::Op::Diff(diff) => Op::Diff(DiffOp {
            lower: input("diff.lower", diff.lower.ok_or(FieldError::Missing("diff.lower"))?.input)?,
            upper: input("diff.upper", diff.upper.ok_or(FieldError::Missing("diff.upper"))?.input)?,
        }),
        pb::op::Op::Build(_) => return Err(FieldError::Unsupported("build")),
    };
    let metadata = metadata.map(self::metadata).transpose()?.unwrap_or_default();
    let vertex = Vertex::new(op, inputs, platform, metadata);
    if vertex.encoded() == bytes { Ok(vertex) } else { Err(FieldError::NotCanonical) }
}

/// The edge a definition's last op points to.
pub(crate) fn terminal(bytes: &[u8]) -> Result<Edge, FieldError> {
    let encoded = pb::Op::decode(bytes)?;
    match (encoded.inputs.as_slice(), &encoded.op) {
        (_, Some(_)) => Err(FieldError::Value { field: "op", value: "an operation".to_owned() }),
        ([head], None) => edge(head),
        (inputs, None) => Err(FieldError::value("inputs", format_args!("{} edges", inputs.len()))),
    }
}

/// What a definition says of a vertex besides.
pub(crate) fn metadata(encoded: &pb::OpMetadata) -> Result<Metadata, FieldError> {
    if encoded.progress_group.is_some() {
        return Err(FieldError::Unsupported("metadata.progress_group"));
    }
    let cap = |id: &String| Cap::from_id(id).ok_or_else(|| FieldError::value("metadata.caps", id));
    Ok(Metadata {
        description: encoded.description.clone(),
        caps: encoded.caps.iter().filter(|(_, needed)| **needed).map(|(id, _)| cap(id)).collect::<Result<_, _>>()?,
        ignore_cache: encoded.ignore_cache,
        export_cache: encoded.export_cache.map(|export| export.value),
    })
}

fn edge(encoded: &pb::Input) -> Result<Edge, FieldError> {
    let vertex: Digest = encoded.digest.parse().map_err(|_| FieldError::value("inputs.digest", &encoded.digest))?;
    let output = usize::try_from(encoded.index).map_err(|_| FieldError::value("inputs.index", encoded.index))?;
    Ok(Edge { vertex, output: OutputIndex(output) })
}

fn platform(encoded: &pb::Platform) -> Result<Platform, FieldError> {
    let pb::Platform { architecture, os, variant, os_version, os_features } = encoded;
    let text =
        if variant.is_empty() { format!("{os}/{architecture}") } else { format!("{os}/{architecture}/{variant}") };
    if !os_version.is_empty() || !os_features.is_empty() {
        return Err(FieldError::Unsupported("platform.OSVersion"));
    }
    let platform: Platform = text.parse().map_err(|_| FieldError::value("platform", &text))?;
    match platform.os {
        Os::Linux => Ok(platform),
    }
}

fn input(field: &'static str, index: i64) -> Result<Option<InputIndex>, FieldError> {
    match index {
        NONE => Ok(None),
        _ => required(field, index).map(Some),
    }
}

fn required(field: &'static str, index: i64) -> Result<InputIndex, FieldError> {
    usize::try_from(index).map(InputIndex).map_err(|_| FieldError::value(field, index))
}

fn output(field: &'static str, index: i64) -> Result<Option<OutputIndex>, FieldError> {
    match index {
        NONE => Ok(None),
        _ => usize::try_from(index).map(|index| Some(OutputIndex(index))).map_err(|_| FieldError::value(field, index)),
    }
}

fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn exec_op(encoded: pb::ExecOp) -> Result<ExecOp, FieldError> {
    let pb::ExecOp { meta, mounts, network, security, secretenv, cdi_devices } = encoded;
    let meta = meta.ok_or(FieldError::Missing("exec.meta"))?;
    for (used, field) in [
        (security != i32::from(pb::SecurityMode::Sandbox), "exec.security"),
        (!secretenv.is_empty(), "exec.secretenv"),
        (!cdi_devices.is_empty(), "exec.cdiDevices"),
        (meta.proxy_env.is_some(), "exec.meta.proxy_env"),
        (!meta.extra_hosts.is_empty(), "exec.meta.extraHosts"),
        (!meta.ulimit.is_empty(), "exec.meta.ulimit"),
        (!meta.cgroup_parent.is_empty(), "exec.meta.cgroupParent"),
        (!meta.valid_exit_codes.is_empty(), "exec.meta.validExitCodes"),
    ] {
        if used {
            return Err(FieldError::Unsupported(field));
        }
    }
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok(EnvVar { name: name.to_owned(), value: value.to_owned() }),
        None => Err(FieldError::value("exec.meta.env", text)),
    };
    let network = match pb::NetMode::try_from(network) {
        Ok(pb::NetMode::Unset) => NetworkMode::Sandbox,
        Ok(pb::NetMode::Host) => NetworkMode::Host,
        Ok(pb::NetMode::None) => NetworkMode::None,
        Err(_) => return Err(FieldError::value("exec.network", network)),
    };
    Ok(ExecOp {
        env: meta.env.iter().map(variable).collect::<Result<_, _>>()?,
        args: meta.args,
        cwd: meta.cwd,
        user: optional(meta.user),
        hostname: optional(meta.hostname),
        network,
        mounts: mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
    })
}

fn mount(encoded: pb::Mount) -> Result<Mount, FieldError> {
    if encoded.content_cache != i32::from(pb::MountContentCache::Default) {
        return Err(FieldError::Unsupported("mount.contentCache"));
    }
    let kind = match pb::MountType::try_from(encoded.mount_type) {
        Ok(pb::MountType::Bind) => MountKind::Bind,
        Ok(pb::MountType::Cache) => {
            let cache = encoded.cache_opt.ok_or(FieldError::Missing("mount.cacheOpt"))?;
            let sharing = match pb::CacheSharingOpt::try_from(cache.sharing) {
                Ok(pb::CacheSharingOpt::Shared) => CacheSharing::Shared,
                Ok(pb::CacheSharingOpt::Private) => CacheSharing::Private,
                Ok(pb::CacheSharingOpt::Locked) => CacheSharing::Locked,
                Err(_) => return Err(FieldError::value("mount.cacheOpt.sharing", cache.sharing)),
            };
            MountKind::Cache { id: CacheId(cache.id), sharing }
        }
        Ok(pb::MountType::Tmpfs) => {
            let size = encoded.tmpfs_opt.ok_or(FieldError::Missing("mount.TmpfsOpt"))?.size;
            let size = u64::try_from(size).map_err(|_| FieldError::value("mount.TmpfsOpt.size", size))?;
            MountKind::Tmpfs { size: (size > 0).then_some(size) }
        }
        Ok(pb::MountType::Secret) => {
            let pb::SecretOpt { id, uid, gid, mode, optional } =
                encoded.secret_opt.ok_or(FieldError::Missing("mount.secretOpt"))?;
            MountKind::Secret(SecretMount { id: SecretId(id), uid, gid, mode, optional })
        }
        Ok(pb::MountType::Ssh) => {
            let pb::SshOpt { id, uid, gid, mode, optional } =
                encoded.ssh_opt.ok_or(FieldError::Missing("mount.SSHOpt"))?;
            MountKind::Ssh(SecretMount { id: SecretId(id), uid, gid, mode, optional })
        }
        Err(_) => return Err(FieldError::value("mount.mountType", encoded.mount_type)),
    };
    let output = match kind {
        MountKind::Secret(_) | MountKind::Ssh(_) => None,
        MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => output("mount.output", encoded.output)?,
    };
    Ok(Mount {
        dest: encoded.dest,
        input: input("mount.input", encoded.input)?,
        selector: optional(encoded.selector),
        readonly: encoded.readonly,
        output,
        kind,
    })
}

fn file_op(encoded: pb::FileOp, inputs: usize) -> Result<FileOp, FieldError> {
    Ok(FileOp {
        actions: encoded.actions.into_iter().map(|action| file_action(action, inputs)).collect::<Result<_, _>>()?,
    })
}

fn file_action(encoded: pb::FileAction, inputs: usize) -> Result<FileAction, FieldError> {
    let tree = |field, index| {
        input(field, index).map(|index| match index {
            None => ActionInput::Scratch,
            Some(InputIndex(index)) if index < inputs => ActionInput::Input(InputIndex(index)),
            Some(InputIndex(index)) => ActionInput::Action(index - inputs),
        })
    };
    let kind = match encoded.action.ok_or(FieldError::Missing("file.action"))? {
        pb::file_action::Action::Copy(copy) => FileActionKind::Copy(copy_action(copy)?),
        pb::file_action::Action::Mkfile(mkfile) => FileActionKind::Mkfile(MkfileAction {
            path: mkfile.path,
            mode: mode("mkfile.mode", mkfile.mode)?,
            data: mkfile.data,
            owner: mkfile.owner.map(owner).transpose()?,
            timestamp: timestamp(mkfile.timestamp),
        }),
        pb::file_action::Action::Mkdir(mkdir) => FileActionKind::Mkdir(MkdirAction {
            path: mkdir.path,
            mode: mode("mkdir.mode", mkdir.mode)?,
            make_parents: mkdir.make_parents,
            owner: mkdir.owner.map(owner).transpose()?,
            timestamp: timestamp(mkdir.timestamp),
        }),
        pb::file_action::Action::Rm(rm) => FileActionKind::Rm(RmAction {
            path: rm.path,
            allow_not_found: rm.allow_not_found,
            allow_wildcard: rm.allow_wildcard,
        }),
        pb::file_action::Action::Symlink(symlink) => FileActionKind::Symlink(SymlinkAction {
            target: symlink.oldpath,
            path: symlink.newpath,
            owner: symlink.owner.map(owner).transpose()?,
            timestamp: timestamp(symlink.timestamp),
        }),
    };
    Ok(FileAction {
        input: tree("file.input", encoded.input)?,
        secondary_input: tree("file.secondaryInput", encoded.secondary_input)?,
        output: output("file.output", encoded.output)?,
        kind,
    })
}

fn copy_action(encoded: pb::FileActionCopy) -> Result<CopyAction, FieldError> {
    if !encoded.mode_str.is_empty() {
        return Err(FieldError::Unsupported("copy.modeStr"));
    }
    if !encoded.required_paths.is_empty() {
        return Err(FieldError::Unsupported("copy.required_paths"));
    }
    Ok(CopyAction {
        src: encoded.src,
        dest: encoded.dest,
        owner: encoded.owner.map(owner).transpose()?,
        mode: if encoded.mode == -1 { None } else { Some(mode("copy.mode", encoded.mode)?) },
        follow_symlink: encoded.follow_symlink,
        dir_copy_contents: encoded.dir_copy_contents,
        attempt_unpack: encoded.attempt_unpack_docker_compatibility,
        create_dest_path: encoded.create_dest_path,
        allow_wildcard: encoded.allow_wildcard,
        allow_empty_wildcard: encoded.allow_empty_wildcard,
        timestamp: timestamp(encoded.timestamp),
        include: encoded.include_patterns,
        exclude: encoded.exclude_patterns,
        always_replace: encoded.always_replace_existing_dest_paths,
    })
}

fn mode(field: &'static str, encoded: i32) -> Result<u32, FieldError> {
    match u32::try_from(encoded) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(FieldError::value(field, encoded)),
    }
}

fn timestamp(encoded: i64) -> Option<Timestamp> {
    (encoded != NONE).then_some(Timestamp(encoded))
}

fn owner(encoded: pb::ChownOpt) -> Result<Owner, FieldError> {
    let account = |encoded: pb::UserOpt| match encoded.user {
        None => Err(FieldError::Missing("owner.user")),
        Some(pb::user_opt::User::ById(id)) => Ok(Account::Id(id)),
        Some(pb::user_opt::User::ByName(pb::NamedUserOpt { name, input: index })) => {
            Ok(Account::Name { name, input: input("owner.byName.input", index)? })
        }
    };
    Ok(Owner { user: encoded.user.map(account).transpose()?, group: encoded.group.map(account).transpose()? })
}
