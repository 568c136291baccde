//! Where a definition finds what a plan only names: directories, and images that clawbuild made.
//!
//! The embedded engine has both at hand: directories by their own names, images in its store. A daemon that solves for a
//! client has only the client's directories, under the names the client chose, and what registries hold.

use std::collections::{BTreeMap, BTreeSet};

use llb::{
    CopyAction, File, Graph, ImageSource, LocalSource, Location, MkdirAction, MkfileAction, OciLayoutSource, Output,
    SourceOp, Timestamp, Tree,
};
use oci::{Digest, Repository};

use crate::{Context, Origin, STORE_LAYOUT};

/// The places of what a plan names. What is not listed is where the embedded engine has it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories, by the plan's name for them.
    pub contexts: BTreeMap<String, ContextPlace>,
    /// Images, by the digest of their manifest.
    pub images: BTreeMap<Digest, ImagePlace>,
}

/// Where a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextPlace {
    /// Below a tree that an engine can have.
    Tree {
        /// The tree.
        source: Box<SourceOp>,
        /// The directory in it: `a/b`, empty for the whole tree.
        directory: String,
    },
    /// Nowhere yet: these files, by path, are written where they are needed.
    Files(BTreeMap<String, Vec<u8>>),
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePlace {
    /// In a registry.
    Repository(Repository),
    /// In an OCI layout that the client of a daemon offers.
    Layout {
        /// The name the client offers it under.
        store: String,
        /// The client's session.
        session: String,
    },
}

/// A directory in a definition.
pub(crate) struct Placed {
    /// The tree it is in.
    pub(crate) tree: Output,
    /// Its path there, with a slash at the end.
    pub(crate) prefix: String,
    /// The name the client offers the tree under, if it is one of the client's directories.
    pub(crate) offered: Option<String>,
}

impl Places {
    /// An image that clawbuild made, by its digest.
    pub(crate) fn image(&self, graph: Graph, name: &str, manifest: Digest) -> Output {
        match self.images.get(&manifest) {
            None => graph.oci_layout(name, manifest, Some(STORE_LAYOUT)),
            Some(ImagePlace::Repository(repository)) => {
                graph.source(SourceOp::Image(ImageSource { repository: repository.clone(), digest: manifest }))
            }
            Some(ImagePlace::Layout { store, session }) => graph.source(SourceOp::OciLayout(OciLayoutSource {
                name: name.to_owned(),
                digest: manifest,
                store: Some(store.clone()),
                session: Some(session.clone()),
            })),
        }
    }

    /// A directory the plan names.
    pub(crate) fn context(&self, graph: Graph, context: &Context, origin: &Origin) -> Placed {
        let described = |tree: Output| {
            let name = format!("load directory `{}`", context.name);
            tree.with_name(name).with_location(Location::new(&origin.source, origin.span))
        };
        match self.contexts.get(&context.name) {
            None => {
                let local = LocalSource {
                    include: context.include.clone(),
                    exclude: context.exclude.clone(),
                    ..LocalSource::new(&context.name)
                };
                let tree = described(graph.local(local));
                Placed { tree, prefix: "/".to_owned(), offered: Some(context.name.clone()) }
            }
            Some(ContextPlace::Tree { source, directory }) => {
                let SourceOp::Local(local) = source.as_ref() else {
                    // Only the client's own directories are filtered on their way; of others a part is copied.
                    let whole = described(graph.source(SourceOp::clone(source)));
                    let part = CopyAction {
                        dir_copy_contents: true,
                        create_dest_path: true,
                        exclude: context.exclude.clone(),
                        ..CopyAction::new(format!("/{directory}"), "/")
                    };
                    let tree = described(graph.file(File::on(Tree::Scratch).copy_with(&whole, part)));
                    return Placed { tree, prefix: "/".to_owned(), offered: None };
                };
                let include = match (context.include.as_slice(), directory.as_str()) {
                    ([], "") => Vec::new(),
                    ([], directory) => vec![directory.to_owned()],
                    (patterns, directory) => below(directory, patterns),
                };
                let prefix = if directory.is_empty() { "/".to_owned() } else { format!("/{directory}/") };
                let offered = Some(local.name.clone());
                let local = LocalSource { include, exclude: below(directory, &context.exclude), ..local.clone() };
                Placed { tree: described(graph.local(local)), prefix, offered }
            }
            Some(ContextPlace::Files(files)) => {
                Placed { tree: described(written(graph, files)), prefix: "/".to_owned(), offered: None }
            }
        }
    }
}

/// Patterns for a directory as patterns for the tree it is in.
fn below(directory: &str, patterns: &[String]) -> Vec<String> {
    if directory.is_empty() {
        return patterns.to_vec();
    }
    let below = |pattern: &String| match pattern.strip_prefix('!') {
        Some(plain) => format!("!{directory}/{}", plain.trim_start_matches('/')),
        None => format!("{directory}/{}", pattern.trim_start_matches('/')),
    };
    patterns.iter().map(below).collect()
}

/// Files as one file operation on nothing.
fn written(graph: Graph, files: &BTreeMap<String, Vec<u8>>) -> Output {
    let mut file = File::on(Tree::Scratch).timestamp(Timestamp::from_seconds(0));
    let mut made = BTreeSet::new();
    for (path, data) in files {
        if let Some((directory, _)) = path.rsplit_once('/')
            && made.insert(directory)
        {
            file = file.mkdir(MkdirAction { make_parents: true, ..MkdirAction::new(format!("/{directory}")) });
        }
        file = file.mkfile(MkfileAction::new(format!("/{path}"), data.as_slice()));
    }
    graph.file(file)
}
