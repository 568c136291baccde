//! The plan in words, for `clawbuild show` and `graph --format plan`.

use std::fmt::Write as _;

use crate::{CopyFrom, FileAction, From, Plan, StepKind};

/// The plan as indented text: stages in order, each with what it starts from and its steps.
#[must_use]
pub fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |depth: usize, text: String| {
        writeln!(out, "{}{text}", "  ".repeat(depth)).expect("writing to a String cannot fail");
    };
    line(0, format!("{} for {}", plan.target, plan.platform));
    for stage in &plan.stages {
        line(1, format!("stage {} ({})", stage.name, stage.platform));
        line(
            2,
            match &stage.from {
                From::Scratch => "from nothing".to_owned(),
                From::Stage(id) => format!("from stage {}", plan.stage(*id).name),
                From::Layout { name, manifest, .. } => format!("from {name} {manifest}"),
                From::Archive { download, .. } => format!("from {}", download.url),
                From::Git { url, commit, .. } => format!("from {url} {commit}"),
                From::Image { reference, .. } => format!("from {reference}"),
            },
        );
        for step in &stage.steps {
            match &step.kind {
                StepKind::Run(run) => {
                    line(2, format!("run {}{}", run.args.join(" "), if run.network { " (network)" } else { "" }))
                }
                StepKind::Overlay { name, manifest } => line(2, format!("lay over {name} {manifest}")),
                StepKind::Files(actions) => actions.iter().for_each(|action| line(2, describe_action(plan, action))),
            }
        }
    }
    out
}

fn describe_action(plan: &Plan, action: &FileAction) -> String {
    match action {
        FileAction::Copy(copy) => {
            let from = match &copy.from {
                CopyFrom::Stage(id) => format!("stage {}", plan.stage(*id).name),
                CopyFrom::Context(context) => format!("directory {}", context.name),
                CopyFrom::Archive(download) => download.url.clone(),
            };
            format!("copy {} from {from} to {}", copy.path, copy.to)
        }
        FileAction::Write { path, data, mode, .. } => format!("write {path} ({} bytes, {mode:04o})", data.len()),
        FileAction::Directory { path, mode, .. } => format!("directory {path} ({mode:04o})"),
        FileAction::Symlink { path, target } => format!("symlink {path} -> {target}"),
        FileAction::Remove { path } => format!("remove {path}"),
    }
}
