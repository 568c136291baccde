//! Lowering: the plan to LLB. Total: every plan has its definition.

use std::collections::{BTreeMap, BTreeSet};

use llb::{
    Bind, Cache, CacheSharing, CopyAction, Definition, Exec, File, GitSource, Graph, HttpSource, Location, MkdirAction,
    MkfileAction, NetworkMode, Output, Owner, RmAction, Secret, SymlinkAction, Timestamp, Tmpfs, Tree,
};

use crate::{
    CA_SECRET, Copy, CopyFrom, Download, Epoch, FileAction, From, MountKind, Origin, Places, Plan, Run, Stage, Step,
    StepKind,
};

/// The name under which engines find the local store behind `oci-layout://` sources.
pub const STORE_LAYOUT: &str = "clawbuild";
/// Where steps with network find the certificates they trust.
const CA_BUNDLE: &str = "/run/clawbuild/ca-certificates.crt";
/// The variables by which programs are told of them.
const CA_VARIABLES: [&str; 6] =
    ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"];

/// A plan as LLB.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph.
    pub definition: Definition,
    /// The names of the local directories it takes files from.
    pub contexts: BTreeSet<String>,
}

impl Plan {
    /// The plan as LLB for the embedded engine. Equal plans give equal bytes.
    #[must_use]
    pub fn lower(&self) -> Lowered {
        self.lower_to(&Places::default())
    }

    /// The plan as LLB, with directories and images taken from where they are.
    #[must_use]
    pub fn lower_to(&self, places: &Places) -> Lowered {
        let mut lowering = Lowering { places, trees: Vec::new(), contexts: BTreeSet::new(), archives: BTreeMap::new() };
        for stage in &self.stages {
            let tree = lowering.stage(stage);
            lowering.trees.push(tree);
        }
        let Tree::Output(result) = &lowering.trees[self.result.0] else {
            // The parsers refuse bases and images of nothing.
            unreachable!("a result holds at least one layer")
        };
        let graph = Graph::new(self.platform);
        let definition = graph.definition(result).expect("plans lower to well-formed graphs");
        let contexts = used_contexts(&definition, &lowering.contexts);
        Lowered { definition, contexts }
    }
}

/// Stages that nothing needs bring no contexts.
fn used_contexts(definition: &Definition, named: &BTreeSet<String>) -> BTreeSet<String> {
    let is_used = |name: &&String| {
        definition.vertices().iter().any(|vertex| match vertex.op() {
            llb::Op::Source(llb::SourceOp::Local(local)) => local.name == **name,
            _ => false,
        })
    };
    named.iter().filter(is_used).cloned().collect()
}

struct Lowering<'a> {
    places: &'a Places,
    /// The trees of the stages so far.
    trees: Vec<Tree>,
    contexts: BTreeSet<String>,
    /// Unpacked archives by checksum and file name.
    archives: BTreeMap<(oci::Digest, String), Output>,
}

impl Lowering<'_> {
    fn stage(&mut self, stage: &Stage) -> Tree {
        let graph = Graph::new(stage.platform);
        let mut tree = match &stage.from {
            From::Scratch => Tree::Scratch,
            From::Stage(id) => self.trees[id.0].clone(),
            From::Layout { name, manifest, origin } => {
                let source = self.places.image(graph, &layer_repository(name), *manifest);
                Tree::Output(source.with_name(format!("[{}] {name}", stage.name)).with_location(location(origin)))
            }
            From::Archive { download, origin } => Tree::Output(self.archive(graph, download, origin)),
            From::Git { url, commit, origin } => {
                let source = graph.git(GitSource {
                    remote: url.clone(),
                    commit: commit.parse().expect("locks hold whole commit ids"),
                    subdir: None,
                    keep_git_dir: false,
                });
                Tree::Output(source.with_name(format!("[{}] {url}", stage.name)).with_location(location(origin)))
            }
            From::Image { reference, origin } => {
                let digest = reference.digest.expect("recipes name images by digest");
                let source = graph.image(reference.repository.clone(), digest);
                Tree::Output(source.with_name(format!("[{}] {reference}", stage.name)).with_location(location(origin)))
            }
        };
        for step in &stage.steps {
            let name = format!("[{}] {}", stage.name, step.name);
            tree = Tree::Output(match &step.kind {
                StepKind::Run(run) => {
                    let Tree::Output(rootfs) = &tree else { unreachable!("steps run only in stages with a tree") };
                    self.run(graph, rootfs, run, (name, stage.epoch), &step.origin)
                }
                StepKind::Files(actions) => self.files(graph, tree, actions, (name, stage.epoch), step),
                StepKind::Overlay { name: layout, manifest } => {
                    let source = self.places.image(graph, &layer_repository(layout), *manifest);
                    let layer = source.with_name(name.clone()).with_location(location(&step.origin));
                    match &tree {
                        Tree::Scratch => layer,
                        Tree::Output(below) => {
                            graph.merge(below, [layer]).with_name(name).with_location(location(&step.origin))
                        }
                    }
                }
            });
        }
        tree
    }

    fn run(
        &mut self,
        graph: Graph,
        rootfs: &Output,
        run: &Run,
        (name, epoch): (String, Epoch),
        origin: &Origin,
    ) -> Output {
        let epoch = epoch.0.to_string();
        let mut exec = Exec::on(rootfs, &run.args)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/tmp")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", epoch)
            .hostname("clawbuild")
            .cwd(run.workdir.as_str())
            .network(if run.network { NetworkMode::Sandbox } else { NetworkMode::None })
            .with_name(name)
            .with_location(location(origin));
        if run.network {
            exec = CA_VARIABLES.iter().fold(exec, |exec, variable| exec.env(*variable, CA_BUNDLE));
            exec = exec.mount(CA_BUNDLE, Secret::new(CA_SECRET).mode(0o444).optional());
        }
        exec = exec.envs(&run.env);
        for mount in &run.mounts {
            let target = mount.target.as_str();
            exec = match &mount.kind {
                MountKind::Stage { stage, path } => {
                    let bind = Bind::new(&self.trees[stage.0]).read_only();
                    let bind = if path.as_str() == "/" { bind } else { bind.selector(path.as_str()) };
                    exec.mount(target, bind)
                }
                MountKind::Cache { id } => exec.mount(target, Cache::new(id, CacheSharing::Locked)),
                MountKind::Tmpfs => exec.mount(target, Tmpfs::new()),
                MountKind::Secret { id, optional } => {
                    let secret = Secret::new(id);
                    exec.mount(target, if *optional { secret.optional() } else { secret })
                }
            };
        }
        graph.exec(exec).rootfs().clone()
    }

    fn files(
        &mut self,
        graph: Graph,
        tree: Tree,
        actions: &[FileAction],
        (name, epoch): (String, Epoch),
        step: &Step,
    ) -> Output {
        let epoch = Timestamp::from_seconds(epoch.0);
        let mut file = File::on(tree).timestamp(epoch).with_name(name).with_location(location(&step.origin));
        for action in actions {
            file = match action {
                FileAction::Copy(copy) => {
                    let (from, prefix) = self.copy_source(graph, &copy.from, &step.origin);
                    let mut action = copy_action(copy, &prefix);
                    if matches!(copy.from, CopyFrom::Context(_)) {
                        // When a checkout was made is nobody's business, and no part of the context's digest.
                        action.timestamp = action.timestamp.or(Some(epoch));
                    }
                    file.copy_with(from, action)
                }
                FileAction::Write { path, data, mode, owner } => file.mkfile(MkfileAction {
                    mode: *mode,
                    owner: Some(Owner::id(owner.0, owner.1)),
                    ..MkfileAction::new(path.as_str(), data.as_slice())
                }),
                FileAction::Directory { path, mode, owner } => file.mkdir(MkdirAction {
                    mode: *mode,
                    make_parents: true,
                    owner: Some(Owner::id(owner.0, owner.1)),
                    ..MkdirAction::new(path.as_str())
                }),
                FileAction::Symlink { path, target } => {
                    file.symlink(SymlinkAction::new(target.as_str(), path.as_str()))
                }
                FileAction::Remove { path } => file.rm(RmAction {
                    allow_not_found: true,
                    allow_wildcard: has_wildcard(path.as_str()),
                    ..RmAction::new(path.as_str())
                }),
            };
        }
        graph.file(file)
    }

    /// A tree to copy from, and what stands before the paths in it.
    fn copy_source(&mut self, graph: Graph, from: &CopyFrom, origin: &Origin) -> (Tree, String) {
        let root = "/".to_owned();
        match from {
            CopyFrom::Stage(id) => (self.trees[id.0].clone(), root),
            CopyFrom::Context(context) => {
                let placed = self.places.context(graph, context, origin);
                self.contexts.extend(placed.offered);
                (Tree::Output(placed.tree), placed.prefix)
            }
            CopyFrom::Archive(download) => (Tree::Output(self.archive(graph, download, origin)), root),
        }
    }

    /// A download, unpacked once however many files are taken from it.
    fn archive(&mut self, graph: Graph, download: &Download, origin: &Origin) -> Output {
        let key = (download.checksum, download.filename.clone());
        if let Some(known) = self.archives.get(&key) {
            return known.clone();
        }
        let fetched = graph
            .http(HttpSource {
                filename: Some(download.filename.clone()),
                ..HttpSource::new(&download.url, download.checksum)
            })
            .with_name(format!("fetch {}", download.filename))
            .with_location(location(origin));
        let copy = CopyAction {
            attempt_unpack: true,
            create_dest_path: true,
            owner: Some(Owner::id(0, 0)),
            ..CopyAction::new(format!("/{}", download.filename), "/")
        };
        let unpacked = graph.file(
            File::on(Tree::Scratch)
                .copy_with(&fetched, copy)
                .with_name(format!("unpack {}", download.filename))
                .with_location(location(origin)),
        );
        self.archives.insert(key, unpacked.clone());
        unpacked
    }
}

fn copy_action(copy: &Copy, prefix: &str) -> CopyAction {
    let to = copy.to.as_str();
    let destination = if copy.into && to != "/" { format!("{to}/") } else { to.to_owned() };
    CopyAction {
        owner: Some(Owner::id(copy.owner.0, copy.owner.1)),
        mode: copy.mode,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: has_wildcard(&copy.path),
        exclude: copy.exclude.clone(),
        timestamp: copy.timestamp.map(Timestamp::from_seconds),
        ..CopyAction::new(format!("{prefix}{}", copy.path.trim_start_matches('/')), destination)
    }
}

fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn location(origin: &Origin) -> Location {
    Location::new(&origin.source, origin.span)
}

/// The repository of an owner's image: `base/node` is one as it is; a recipe's packages are `packages/openclaw`, those it
/// is built with `packages/openclaw-build`.
#[must_use]
pub fn layer_repository(owner: &str) -> String {
    // What a layer holds may be said behind its owner.
    let owner = owner.split(": ").next().unwrap_or(owner);
    if owner.contains('/') { owner.to_owned() } else { format!("packages/{}", owner.replace([':', ' '], "-")) }
}
