//! Cache keys.
//!
//! A vertex is looked up in three ways, each only when the one before missed:
//!
//! 1. by its *definition key*: the op and the definition keys of its inputs, down to what identifies the sources'
//!    content. It needs nothing to be run or read;
//! 2. by its *identity key*: the op and the very trees its inputs turned out to be, so that two definitions which arrive
//!    at the same trees meet again;
//! 3. among results of the same op on trees of which it reads the same parts (see [`super::alike`]).
//!
//! What is found in one way is written down for those before it.

use llb::{Edge, FileActionKind, HttpSource, LocalSource, Op, OutputIndex, SourceOp, Vertex};
use oci::{Digest, Platform};
use store::Key;

use super::chain::Chain;

/// What a vertex does, leaving open what it does it to. `epoch` is the time files get that are made without one.
pub(crate) fn op_digest(vertex: &Vertex, epoch: Option<i64>) -> Digest {
    // The digest of a vertex covers its inputs'; the same op on inputs that are all alike has one digest.
    let open = Edge { vertex: Digest::from_bytes([0; 32]), output: OutputIndex(0) };
    let inputs = vec![open; vertex.inputs().len()];
    let alike = Vertex::new(vertex.op().clone(), inputs, vertex.platform(), llb::Metadata::default());
    dated(&alike, epoch)
}

/// The digest of a vertex, and the epoch where that matters.
fn dated(vertex: &Vertex, epoch: Option<i64>) -> Digest {
    match vertex.op() {
        Op::File(file) if file.actions.iter().any(|action| makes_timeless(&action.kind)) => {
            Digest::of(format!("{} {}", vertex.digest(), epoch.unwrap_or(0)))
        }
        Op::File(_) | Op::Source(_) | Op::Exec(_) | Op::Merge(_) | Op::Diff(_) => vertex.digest(),
    }
}

/// Whether an action makes anything that is given no time.
fn makes_timeless(action: &FileActionKind) -> bool {
    match action {
        FileActionKind::Mkfile(mkfile) => mkfile.timestamp.is_none(),
        FileActionKind::Mkdir(mkdir) => mkdir.timestamp.is_none(),
        FileActionKind::Symlink(symlink) => symlink.timestamp.is_none(),
        FileActionKind::Copy(copy) => copy.timestamp.is_none() && copy.create_dest_path,
        FileActionKind::Rm(_) => false,
    }
}

/// The definition key of a vertex that has inputs, from those of its inputs.
pub(crate) fn definition<'a>(vertex: &Vertex, epoch: Option<i64>, inputs: impl IntoIterator<Item = &'a Key>) -> Key {
    // Which outputs are taken is said by the vertex.
    keyed("definition", &dated(vertex, epoch), inputs.into_iter().map(Key::hex))
}

/// The identity key of a vertex.
pub(crate) fn identity(op: &Digest, trees: &[Chain]) -> Key {
    keyed("identity", op, trees.iter().map(|tree| tree.identity().hex()))
}

fn keyed(kind: &str, op: &Digest, inputs: impl Iterator<Item = String>) -> Key {
    let known = [crate::RESULTS.to_owned(), kind.to_owned(), op.to_string()];
    let parts: Vec<String> = known.into_iter().chain(inputs).collect();
    Key::of(parts.iter().map(String::as_bytes))
}

/// The key of a source: what identifies its content, not where it comes from.
///
/// `local` is the content digest of the directory behind a local source.
pub(crate) fn source(source: &SourceOp, platform: Platform, local: impl FnOnce(&LocalSource) -> Digest) -> Key {
    let parts: Vec<String> = match source {
        SourceOp::Image(llb::ImageSource { digest, .. }) | SourceOp::OciLayout(llb::OciLayoutSource { digest, .. }) => {
            vec!["image".to_owned(), digest.to_string(), platform.to_string()]
        }
        SourceOp::Http(http) => {
            let HttpSource { checksum, perm, uid, gid, .. } = http;
            let perm = perm.unwrap_or(super::source::DEFAULT_FILE_MODE);
            let file = [perm.to_string(), uid.to_string(), gid.to_string(), super::source::file_name(http).to_owned()];
            ["http".to_owned(), checksum.to_string()].into_iter().chain(file).collect()
        }
        SourceOp::Git(git) => {
            let subdir = git.subdir.clone().unwrap_or_default();
            // A `.git` that stays says where it came from.
            let remote = if git.keep_git_dir { git.remote.clone() } else { String::new() };
            vec!["git".to_owned(), git.commit.to_string(), subdir, remote]
        }
        SourceOp::Local(source) => vec!["local".to_owned(), local(source).to_string()],
    };
    Key::of(parts.iter().map(String::as_bytes))
}

/// A key of one way of keeping ownership: trees made in different ways are never mixed.
pub(crate) fn in_domain(domain: &str, key: &Key) -> Key {
    Key::of([domain.as_bytes(), key.hex().as_bytes()])
}
