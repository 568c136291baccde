//! Definitions for people and other tools.

use crate::op::Op;
use crate::source::SourceOp;

/// An op in a few words, shown where a vertex has no name of its own.
pub(crate) fn summary(op: &Op) -> String {
    match op {
        Op::Source(source) => match source {
            SourceOp::Http(http) => http.url.clone(),
            SourceOp::Image(_) | SourceOp::OciLayout(_) | SourceOp::Local(_) | SourceOp::Git(_) => {
                crate::source_attrs::encode(source).0
            }
        },
        Op::Exec(exec) => exec.args.join(" "),
        Op::File(file) => {
            use crate::file::FileActionKind as Kind;
            let words = file.actions.iter().map(|action| match &action.kind {
                Kind::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
                Kind::Mkfile(mkfile) => format!("mkfile {}", mkfile.path),
                Kind::Mkdir(mkdir) => format!("mkdir {}", mkdir.path),
                Kind::Rm(rm) => format!("rm {}", rm.path),
                Kind::Symlink(symlink) => format!("symlink {} -> {}", symlink.path, symlink.target),
            });
            words.collect::<Vec<_>>().join(", ")
        }
        Op::Merge(_) => "merge".to_owned(),
        Op::Diff(_) => "diff".to_owned(),
    }
}
