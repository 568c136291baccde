//! JSON lines as `buildctl debug dump-llb` prints them: Go's names, and zero values left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_buildkit_proto::pb;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::definition::Definition;

pub(super) fn dump(definition: &Definition) -> String {
    let encoded = definition.to_pb();
    let mut text = String::new();
    for bytes in &encoded.def {
        let digest = oci::Digest::of(bytes).to_string();
        let op = pb::Op::decode(bytes.as_slice()).expect("an encoded op can be decoded");
        let line = json!({
            "Op": op_value(&op),
            "OpMetadata": encoded.metadata.get(&digest).map(metadata),
            "Digest": digest,
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// An object without the fields that hold zero values.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let present = fields.into_iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    });
    Value::Object(present.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A map field, left out when empty, unlike a message.
fn map<V: Into<Value> + Clone>(entries: &BTreeMap<String, V>) -> Value {
    if entries.is_empty() {
        return Value::Null;
    }
    Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect())
}

fn op_value(op: &pb::Op) -> Value {
    let mut operation = Map::new();
    if let Some(op) = &op.op {
        let (name, value) = match op {
            pb::op::Op::Exec(exec) => ("exec", exec_value(exec)),
            pb::op::Op::Source(source) => {
                ("source", object([("identifier", json!(source.identifier)), ("attrs", map(&source.attrs))]))
            }
            pb::op::Op::File(file) => ("file", object([("actions", file.actions.iter().map(file_action).collect())])),
            pb::op::Op::Merge(merge) => {
                ("merge", object([("inputs", merge.inputs.iter().map(|merged| index(merged.input)).collect())]))
            }
            pb::op::Op::Diff(diff) => (
                "diff",
                object([
                    ("lower", diff.lower.map_or(Value::Null, |lower| index(lower.input))),
                    ("upper", diff.upper.map_or(Value::Null, |upper| index(upper.input))),
                ]),
            ),
            pb::op::Op::Build(_) => ("build", Value::Object(Map::new())),
        };
        operation.insert(name.to_owned(), value);
    }
    let inputs: Value = op
        .inputs
        .iter()
        .map(|input| object([("digest", json!(input.digest)), ("index", json!(input.index))]))
        .collect();
    let platform = op.platform.as_ref().map_or(Value::Null, |platform| {
        object([("Architecture", json!(platform.architecture)), ("OS", json!(platform.os))])
    });
    let constraints = op.constraints.as_ref().map_or(Value::Null, |_| Value::Object(Map::new()));
    object([("inputs", inputs), ("Op", Value::Object(operation)), ("platform", platform), ("constraints", constraints)])
}

fn index(input: i64) -> Value {
    object([("input", json!(input))])
}

fn exec_value(exec: &pb::ExecOp) -> Value {
    let meta = exec.meta.as_ref().map_or(Value::Null, |meta| {
        object([
            ("args", json!(meta.args)),
            ("env", json!(meta.env)),
            ("cwd", json!(meta.cwd)),
            ("user", json!(meta.user)),
            ("hostname", json!(meta.hostname)),
            ("removeMountStubsRecursive", json!(meta.remove_mount_stubs_recursive)),
        ])
    });
    object([
        ("meta", meta),
        ("mounts", exec.mounts.iter().map(mount).collect()),
        ("network", json!(exec.network)),
        ("security", json!(exec.security)),
    ])
}

fn mount(mount: &pb::Mount) -> Value {
    let file = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| {
        object([
            ("ID", json!(id)),
            ("uid", json!(uid)),
            ("gid", json!(gid)),
            ("mode", json!(mode)),
            ("optional", json!(optional)),
        ])
    };
    let tmpfs = mount.tmpfs_opt.as_ref().map_or(Value::Null, |tmpfs| object([("size", json!(tmpfs.size))]));
    let cache = mount
        .cache_opt
        .as_ref()
        .map_or(Value::Null, |cache| object([("ID", json!(cache.id)), ("sharing", json!(cache.sharing))]));
    let secret = mount.secret_opt.as_ref().map_or(Value::Null, |s| file(&s.id, s.uid, s.gid, s.mode, s.optional));
    let ssh = mount.ssh_opt.as_ref().map_or(Value::Null, |s| file(&s.id, s.uid, s.gid, s.mode, s.optional));
    object([
        ("input", json!(mount.input)),
        ("selector", json!(mount.selector)),
        ("dest", json!(mount.dest)),
        ("output", json!(mount.output)),
        ("readonly", json!(mount.readonly)),
        ("mountType", json!(mount.mount_type)),
        ("TmpfsOpt", tmpfs),
        ("cacheOpt", cache),
        ("secretOpt", secret),
        ("SSHOpt", ssh),
    ])
}

fn file_action(action: &pb::FileAction) -> Value {
    let mut kind = Map::new();
    if let Some(action) = &action.action {
        let (name, value) = match action {
            pb::file_action::Action::Copy(copy) => ("copy", copy_value(copy)),
            pb::file_action::Action::Mkfile(mkfile) => (
                "mkfile",
                object([
                    ("path", json!(mkfile.path)),
                    ("mode", json!(mkfile.mode)),
                    ("data", json!(BASE64_STANDARD.encode(&mkfile.data))),
                    ("owner", owner(mkfile.owner.as_ref())),
                    ("timestamp", json!(mkfile.timestamp)),
                ]),
            ),
            pb::file_action::Action::Mkdir(mkdir) => (
                "mkdir",
                object([
                    ("path", json!(mkdir.path)),
                    ("mode", json!(mkdir.mode)),
                    ("makeParents", json!(mkdir.make_parents)),
                    ("owner", owner(mkdir.owner.as_ref())),
                    ("timestamp", json!(mkdir.timestamp)),
                ]),
            ),
            pb::file_action::Action::Rm(rm) => (
                "rm",
                object([
                    ("path", json!(rm.path)),
                    ("allowNotFound", json!(rm.allow_not_found)),
                    ("allowWildcard", json!(rm.allow_wildcard)),
                ]),
            ),
            // BuildKit's own dump forgets these.
            pb::file_action::Action::Symlink(symlink) => (
                "symlink",
                object([
                    ("oldpath", json!(symlink.oldpath)),
                    ("newpath", json!(symlink.newpath)),
                    ("owner", owner(symlink.owner.as_ref())),
                    ("timestamp", json!(symlink.timestamp)),
                ]),
            ),
        };
        kind.insert(name.to_owned(), value);
    }
    json!({
        "input": action.input,
        "secondaryInput": action.secondary_input,
        "output": action.output,
        "Action": kind,
    })
}

fn copy_value(copy: &pb::FileActionCopy) -> Value {
    object([
        ("src", json!(copy.src)),
        ("dest", json!(copy.dest)),
        ("owner", owner(copy.owner.as_ref())),
        ("mode", json!(copy.mode)),
        ("followSymlink", json!(copy.follow_symlink)),
        ("dirCopyContents", json!(copy.dir_copy_contents)),
        ("attemptUnpackDockerCompatibility", json!(copy.attempt_unpack_docker_compatibility)),
        ("createDestPath", json!(copy.create_dest_path)),
        ("allowWildcard", json!(copy.allow_wildcard)),
        ("allowEmptyWildcard", json!(copy.allow_empty_wildcard)),
        ("timestamp", json!(copy.timestamp)),
        ("include_patterns", json!(copy.include_patterns)),
        ("exclude_patterns", json!(copy.exclude_patterns)),
        ("alwaysReplaceExistingDestPaths", json!(copy.always_replace_existing_dest_paths)),
    ])
}

fn owner(owner: Option<&pb::ChownOpt>) -> Value {
    let account = |account: Option<&pb::UserOpt>| match account.and_then(|account| account.user.as_ref()) {
        None => Value::Null,
        Some(pb::user_opt::User::ByName(named)) => {
            json!({ "User": { "byName": object([("name", json!(named.name)), ("input", json!(named.input))]) } })
        }
        Some(pb::user_opt::User::ById(id)) => json!({ "User": object([("byId", json!(id))]) }),
    };
    owner.map_or(Value::Null, |owner| {
        object([("user", account(owner.user.as_ref())), ("group", account(owner.group.as_ref()))])
    })
}

fn metadata(metadata: &pb::OpMetadata) -> Value {
    let export_cache =
        metadata.export_cache.as_ref().map_or(Value::Null, |export| object([("Value", json!(export.value))]));
    object([
        ("ignore_cache", json!(metadata.ignore_cache)),
        ("description", map(&metadata.description)),
        ("export_cache", export_cache),
        ("caps", map(&metadata.caps)),
    ])
}
