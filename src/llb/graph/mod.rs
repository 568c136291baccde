//! Putting graphs together.
//!
//! Nothing here fails and nothing is checked: [`Graph::definition`] checks the whole.

mod exec;
mod file;
mod mount;

use std::collections::HashSet;
use std::sync::Arc;

use oci::{Digest, Platform, Repository};

use crate::definition::Definition;
use crate::op::{DiffOp, InputIndex, MergeOp, Op, OutputIndex};
use crate::source::{GitSource, HttpSource, ImageSource, LocalSource, OciLayoutSource, SourceOp};
use crate::source_map::{Location, SourceMap};
use crate::validate::DefinitionError;
use crate::vertex::{CUSTOM_NAME, Edge, Metadata, Vertex};

pub use exec::{Exec, Executed};
pub use file::File;
pub use mount::{Bind, Cache, MountSpec, Secret, Ssh, Tmpfs};

/// Makes vertices for one platform.
///
/// ```
/// use llb::{Bind, Exec, File, Graph, LocalSource, MkdirAction, NetworkMode};
///
/// let graph = Graph::new(oci::Platform::LINUX_AMD64);
/// let base = graph.oci_layout("base/debian", oci::Digest::of("manifest"), Some("clawbuild"));
/// let source = graph.local(LocalSource::new("context")).with_name("[app] load the sources");
/// let built = graph.exec(
///     Exec::on(&base, ["make"])
///         .cwd("/src")
///         .network(NetworkMode::None)
///         .mount("/src", Bind::new(&source).read_only())
///         .mount("/out", Bind::scratch())
///         .with_name("[app] make"),
/// );
/// let out = built.output("/out").expect("a writable bind has an output");
/// let image = graph.file(File::on(&base).mkdir(MkdirAction::new("/app")).copy(out, "/app", "/app/"));
/// assert_eq!(graph.definition(&image)?.vertices().len(), 4);
/// # Ok::<(), llb::DefinitionError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    platform: Platform,
}

/// One output of a vertex, with everything below it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Output {
    node: Arc<Node>,
    index: OutputIndex,
}

#[derive(Debug)]
struct Node {
    vertex: Vertex,
    inputs: Vec<Output>,
    locations: Vec<Location>,
}

/// A tree to work with: an output or nothing at all.
#[derive(Clone, Debug)]
pub enum Tree {
    /// The empty tree.
    Scratch,
    /// What a vertex gave.
    Output(Output),
}

impl From<Output> for Tree {
    fn from(output: Output) -> Self {
        Self::Output(output)
    }
}

impl From<&Output> for Tree {
    fn from(output: &Output) -> Self {
        Self::Output(output.clone())
    }
}

impl From<&Tree> for Tree {
    fn from(tree: &Tree) -> Self {
        tree.clone()
    }
}

impl Output {
    /// Vertex and output number.
    #[must_use]
    pub fn edge(&self) -> Edge {
        Edge { vertex: self.node.vertex.digest(), output: self.index }
    }

    /// The vertex it comes from.
    #[must_use]
    pub fn vertex(&self) -> &Vertex {
        &self.node.vertex
    }

    /// Names the vertex for people. Its digest stays.
    #[must_use]
    pub fn with_name(&self, name: impl Into<String>) -> Self {
        let vertex = self.node.vertex.described(|metadata| {
            metadata.description.insert(CUSTOM_NAME.to_owned(), name.into());
        });
        self.replaced(vertex, self.node.locations.clone())
    }

    /// Says where the vertex comes from. Its digest stays.
    #[must_use]
    pub fn with_location(&self, location: Location) -> Self {
        let mut locations = self.node.locations.clone();
        locations.push(location);
        self.replaced(self.node.vertex.clone(), locations)
    }

    fn replaced(&self, vertex: Vertex, locations: Vec<Location>) -> Self {
        let node = Node { vertex, inputs: self.node.inputs.clone(), locations };
        Self { node: Arc::new(node), index: self.index }
    }
}

/// What is known of a vertex under construction besides its op.
#[derive(Clone, Debug, Default)]
struct Description {
    metadata: Metadata,
    locations: Vec<Location>,
}

impl Description {
    fn name(&mut self, name: String) {
        self.metadata.description.insert(CUSTOM_NAME.to_owned(), name);
    }
}

/// The inputs of a vertex under construction: each edge once, in the order first used.
#[derive(Debug, Default)]
struct Inputs(Vec<Output>);

impl Inputs {
    fn index(&mut self, output: &Output) -> InputIndex {
        let edge = output.edge();
        let position = self.0.iter().position(|known| known.edge() == edge).unwrap_or_else(|| {
            self.0.push(output.clone());
            self.0.len() - 1
        });
        InputIndex(position)
    }

    fn tree(&mut self, tree: &Tree) -> Option<InputIndex> {
        match tree {
            Tree::Scratch => None,
            Tree::Output(output) => Some(self.index(output)),
        }
    }
}

impl Graph {
    /// A graph for a platform.
    #[must_use]
    pub const fn new(platform: Platform) -> Self {
        Self { platform }
    }

    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// An image in a registry.
    #[must_use]
    pub fn image(&self, repository: Repository, digest: Digest) -> Output {
        self.source(SourceOp::Image(ImageSource { repository, digest }))
    }

    /// An image in an OCI layout: the engine's own store, or one the session offers as `store`.
    #[must_use]
    pub fn oci_layout(&self, name: &str, digest: Digest, store: Option<&str>) -> Output {
        let store = store.map(str::to_owned);
        self.source(SourceOp::OciLayout(OciLayoutSource { name: name.to_owned(), digest, store, session: None }))
    }

    /// A directory of the client's.
    #[must_use]
    pub fn local(&self, local: LocalSource) -> Output {
        self.source(SourceOp::Local(local))
    }

    /// A git commit.
    #[must_use]
    pub fn git(&self, git: GitSource) -> Output {
        self.source(SourceOp::Git(git))
    }

    /// A file by HTTP.
    #[must_use]
    pub fn http(&self, http: HttpSource) -> Output {
        self.source(SourceOp::Http(http))
    }

    /// Any source.
    #[must_use]
    pub fn source(&self, source: SourceOp) -> Output {
        self.only_output(Op::Source(source), Inputs::default(), Description::default())
    }

    /// Runs a command.
    #[must_use]
    pub fn exec(&self, exec: Exec) -> Executed {
        exec.build(self)
    }

    /// Changes files.
    #[must_use]
    pub fn file(&self, file: File) -> Output {
        let (op, inputs, description) = file.into_op();
        self.only_output(op, inputs, description)
    }

    /// Lays trees over each other, `lowest` lowest. Without others it is `lowest` itself; empty ones change nothing.
    #[must_use]
    pub fn merge<T: Into<Tree>>(&self, lowest: &Output, others: impl IntoIterator<Item = T>) -> Output {
        let mut merged = vec![lowest.clone()];
        merged.extend(others.into_iter().filter_map(|other| match other.into() {
            Tree::Scratch => None,
            Tree::Output(output) => Some(output),
        }));
        if merged.len() == 1 {
            return lowest.clone();
        }
        // BuildKit's client lists every input, repeated ones too.
        let op = Op::Merge(MergeOp { inputs: (0..merged.len()).map(InputIndex).collect() });
        self.only_output(op, Inputs(merged), Description::default())
    }

    /// What `upper` has that `lower` has not. From the empty tree that is `upper` itself.
    #[must_use]
    pub fn diff(&self, lower: impl Into<Tree>, upper: &Output) -> Output {
        match lower.into() {
            Tree::Scratch => upper.clone(),
            Tree::Output(lower) => {
                let op = Op::Diff(DiffOp { lower: Some(InputIndex(0)), upper: Some(InputIndex(1)) });
                self.only_output(op, Inputs(vec![lower, upper.clone()]), Description::default())
            }
        }
    }

    /// The definition whose result is `head`, checked.
    ///
    /// # Errors
    /// [`DefinitionError`] if an op is not well formed.
    pub fn definition(&self, head: &Output) -> Result<Definition, DefinitionError> {
        let mut source_map = SourceMap::default();
        let mut vertices = Vec::new();
        let mut seen: HashSet<*const Node> = HashSet::new();
        let mut stack = vec![head];
        while let Some(output) = stack.pop() {
            if seen.insert(Arc::as_ptr(&output.node)) {
                for location in &output.node.locations {
                    source_map.add(output.node.vertex.digest(), location.clone());
                }
                vertices.push(output.node.vertex.clone());
                stack.extend(output.node.inputs.iter().rev());
            }
        }
        Definition::new(head.edge(), vertices, source_map)
    }

    fn node(&self, op: Op, Inputs(inputs): Inputs, description: Description) -> Arc<Node> {
        let Description { metadata, locations } = description;
        let edges = inputs.iter().map(Output::edge).collect();
        Arc::new(Node { vertex: Vertex::new(op, edges, Some(self.platform), metadata), inputs, locations })
    }

    fn only_output(&self, op: Op, inputs: Inputs, description: Description) -> Output {
        Output { node: self.node(op, inputs, description), index: OutputIndex(0) }
    }
}
