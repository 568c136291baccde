//! Definitions for people and other tools.

mod dot;
mod json;
mod mermaid;
mod text;

use oci::Digest;

use crate::definition::Definition;
use crate::exec::ExecOp;
use crate::file::FileActionKind;
use crate::mount::MountKind;
use crate::op::{InputIndex, Op};
use crate::source_attrs;
use crate::vertex::Vertex;

/// Digits of a digest that name a vertex well enough inside one definition.
const SHORT: usize = 12;

impl Definition {
    /// One line per vertex, inputs first, ended by the result.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::dump(self)
    }

    /// A Graphviz graph.
    #[must_use]
    pub fn to_dot(&self) -> String {
        dot::dump(self)
    }

    /// A Mermaid flow chart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        mermaid::dump(self)
    }

    /// One JSON object per line and op, in the form of `buildctl debug dump-llb`.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::dump(self)
    }
}

/// The first digits of a digest.
fn short(digest: &Digest) -> String {
    let mut hex = digest.hex();
    hex.truncate(SHORT);
    hex
}

/// An op in a few words, shown where a vertex has no name of its own.
pub(crate) fn summary(op: &Op) -> String {
    match op {
        Op::Source(source) => source_attrs::encode(source).0,
        Op::Exec(exec) => exec.args.join(" "),
        Op::File(file) => {
            let actions: Vec<_> = file.actions.iter().map(|action| file_action(&action.kind)).collect();
            actions.join(", ")
        }
        Op::Merge(_) => "merge".to_owned(),
        Op::Diff(_) => "diff".to_owned(),
    }
}

pub(crate) fn file_action(kind: &FileActionKind) -> String {
    match kind {
        FileActionKind::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
        FileActionKind::Mkfile(mkfile) => format!("mkfile {}", mkfile.path),
        FileActionKind::Mkdir(mkdir) => format!("mkdir {}", mkdir.path),
        FileActionKind::Rm(rm) => format!("rm {}", rm.path),
        FileActionKind::Symlink(symlink) => format!("symlink {} -> {}", symlink.path, symlink.target),
    }
}

/// The word for what a vertex does.
fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge(_) => "merge",
        Op::Diff(_) => "diff",
    }
}

/// What a vertex does with one of its inputs, in a word or path; empty where there is only one thing to do with it.
fn role(vertex: &Vertex, index: usize) -> String {
    match vertex.op() {
        Op::Exec(exec) => mounts_of(exec, index).join(" "),
        Op::Diff(diff) => {
            let side = |input: Option<InputIndex>| input.is_some_and(|input| input.0 == index);
            match (side(diff.lower), side(diff.upper)) {
                (true, true) => "lower upper".to_owned(),
                (true, false) => "lower".to_owned(),
                (false, true) => "upper".to_owned(),
                (false, false) => String::new(),
            }
        }
        Op::Source(_) | Op::File(_) | Op::Merge(_) => String::new(),
    }
}

/// Where an input is mounted, the root filesystem aside.
fn mounts_of(exec: &ExecOp, index: usize) -> Vec<&str> {
    let mounted = exec.mounts.iter().filter(|mount| mount.input == Some(InputIndex(index)));
    mounted.map(|mount| mount.dest.as_str()).filter(|dest| *dest != "/").collect()
}

/// The mounts that are no input of the graph, such as `cache:npm at /root/.npm`.
fn treeless_mounts(exec: &ExecOp) -> impl Iterator<Item = (String, &str)> {
    exec.mounts.iter().filter_map(|mount| {
        let what = match &mount.kind {
            MountKind::Bind if mount.input.is_none() => "scratch".to_owned(),
            MountKind::Bind => return None,
            MountKind::Cache { id, .. } => format!("cache:{}", id.0),
            MountKind::Tmpfs { .. } => "tmpfs".to_owned(),
            MountKind::Secret(secret) => format!("secret:{}", secret.id.0),
            MountKind::Ssh(socket) => format!("ssh:{}", socket.id.0),
        };
        Some((what, mount.dest.as_str()))
    })
}
