//! Definitions as Dockerfiles, for people and for machines that have Docker and nothing else.
//!
//! Every chain of vertices becomes a stage. The files that come out are the same; what a Dockerfile has no words for
//! is not: modification times, the host name of steps (`--build-arg BUILDKIT_SANDBOX_HOSTNAME=…` sets one for all),
//! and that a copied path which is itself a symbolic link is not followed. Variables that a base image brings along
//! are seen by steps too. Needs the Dockerfile frontend 1.19 or newer (`COPY --exclude`).

mod config;
mod stage;
mod steps;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use diag::{Diagnostic, Reported};
use oci::{ContainerConfig, Digest};

use crate::definition::Definition;
use crate::mount::{MountKind, SecretMount};
use crate::op::Op;
use crate::source::SourceOp;

/// A Dockerfile and what must lie beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text.
    pub text: String,
    /// Files of the build context that it copies, by their path there: contents no here-document can hold, and
    /// symbolic links.
    pub files: BTreeMap<String, ContextFile>,
}

/// A file of the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextFile {
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link and what it says.
    Symlink(String),
}

/// Something that no Dockerfile instruction says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Dockerfile instruction can say what vertex {vertex} does: {reason}")]
pub struct DockerfileError {
    /// The vertex.
    pub vertex: Digest,
    /// What about it.
    #[source]
    pub reason: Unsayable,
}

/// What no Dockerfile instruction says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsayable {
    /// A text that instructions have no way to quote.
    #[error("{what} is `{text}`, which cannot be written there")]
    Text {
        /// What the text is.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// What a step leaves in a mount is used.
    #[error("what the step leaves in the mount at `{0}` is used, and only the root filesystem is kept")]
    MountOutput(String),
    /// A step runs on a part of a tree.
    #[error("the root filesystem is a part of a tree")]
    RootSelector,
    /// The difference of two trees is used otherwise than put back on the lower one.
    #[error("a difference is used on another tree than the one it was taken from")]
    Diff,
    /// A local directory with paths to follow.
    #[error("links in a local directory are to be followed")]
    FollowPaths,
    /// Include patterns that exclude patterns cannot stand in for.
    #[error("files are chosen by patterns that include")]
    Include,
    /// An archive that does not come straight from a download is unpacked.
    #[error("an archive from another tree is unpacked")]
    Unpack,
    /// A directory is copied, not what is in it.
    #[error("a directory is copied as itself")]
    DirectoryItself,
    /// A file may take the place of a directory or the other way round.
    #[error("what is copied may replace files of another type")]
    Replace,
    /// A git repository that is not recognised as one by its URL.
    #[error("`{0}` is not a git URL to a Dockerfile, which takes http and https ones that end in `.git`")]
    GitRemote(String),
    /// A download whose URL names no file.
    #[error("`{0}` names no file")]
    UrlWithoutName(String),
}

/// The Dockerfile of a definition. [`render`] also gives the files it copies, should there be any; the text names
/// them.
///
/// # Errors
/// [`DockerfileError`].
pub fn write(definition: &Definition) -> Result<String, DockerfileError> {
    Ok(render(definition, None)?.text)
}

/// The Dockerfile of a definition and of the config its image is to have.
///
/// # Errors
/// [`DockerfileError`].
pub fn render(definition: &Definition, config: Option<&ContainerConfig>) -> Result<Dockerfile, DockerfileError> {
    let mut stages = stage::Stages::new(definition);
    for vertex in definition.vertices() {
        stages.vertex(vertex).map_err(|reason| DockerfileError { vertex: vertex.digest(), reason })?;
    }
    let head = definition.head();
    let in_head = |reason| DockerfileError { vertex: head.vertex, reason };
    let (mut body, files) = stages.finish(&head).map_err(in_head)?;
    if let Some(config) = config {
        body.push_str(&config::instructions(config).map_err(in_head)?);
    }
    Ok(Dockerfile { text: format!("{}\n{body}", header(definition, &files)), files })
}

/// How to build it: what has to be handed to `docker buildx build`.
fn header(definition: &Definition, files: &BTreeMap<String, ContextFile>) -> String {
    let mut options = Vec::new();
    let mut platforms = Vec::new();
    for vertex in definition.vertices() {
        platforms.extend(vertex.platform());
        match vertex.op() {
            Op::Source(SourceOp::Local(local)) => options.push(format!("--build-context {}=DIRECTORY", local.name)),
            Op::Source(SourceOp::OciLayout(layout)) => {
                options.push(format!("--build-context {0}=oci-layout://LAYOUT@{1}", layout.name, layout.digest));
            }
            Op::Exec(exec) => {
                options.extend(exec.mounts.iter().filter_map(|mount| match &mount.kind {
                    MountKind::Secret(SecretMount { id, .. }) => Some(format!("--secret id={},src=FILE", id.0)),
                    MountKind::Ssh(SecretMount { id, .. }) => Some(format!("--ssh {}", id.0)),
                    MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => None,
                }));
                options
                    .extend(exec.hostname.iter().map(|name| format!("--build-arg BUILDKIT_SANDBOX_HOSTNAME={name}")));
            }
            Op::Source(SourceOp::Image(_) | SourceOp::Git(_) | SourceOp::Http(_))
            | Op::File(_)
            | Op::Merge(_)
            | Op::Diff(_) => {}
        }
    }
    // The platform of the result: that of the last vertex that has one.
    options.extend(platforms.last().map(|platform| format!("--platform {platform}")));
    options.sort_unstable();
    options.dedup();
    let mut text = String::from("# Written by clawbuild. Build it with\n#   docker buildx build");
    for option in options {
        write!(text, " \\\n#     {}", words::comment(&option)).expect("a string grows as needed");
    }
    text.push_str(" \\\n#     .\n");
    if !files.is_empty() {
        text.push_str("# where the directory holds\n");
        for (path, file) in files {
            match file {
                ContextFile::File(data) => writeln!(text, "#   {path} ({} bytes)", data.len()),
                ContextFile::Symlink(target) => writeln!(text, "#   {path} -> {}", words::comment(target)),
            }
            .expect("a string grows as needed");
        }
    }
    text
}

impl Reported for DockerfileError {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(diag::codes::llb::DOCKERFILE, "the build graph cannot be said as a Dockerfile")
            .cause(self.reason.to_string())
            .cause(format!("vertex {}", self.vertex))
            .help("`--format text`, `dot`, `mermaid` and `json` show every graph")
    }
}
