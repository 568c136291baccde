//! Vertices to stages.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use oci::{Digest, Platform};

use super::words::{comment, flag, literal_pattern, paths};
use super::{ContextFile, Unsayable};
use crate::definition::Definition;
use crate::exec::ExecOp;
use crate::file::{ActionInput, FileAction, FileActionKind, FileOp, RmAction};
use crate::op::{DiffOp, InputIndex, MergeOp, Op};
use crate::source::{GitSource, HttpSource, LocalSource, SourceOp};
use crate::vertex::{Edge, Vertex};

/// What a vertex made: an output of an exec, the result of an action of a file op, or the one thing others make.
type Made = (Digest, usize);

/// Stands around the number of a stage in lines. Names are given at the end, when the order is known: a stage may only
/// refer to earlier ones. Nothing else in a line has this character.
const MARK: char = '\u{1}';

/// A tree: what a stage holds at its end, or what only a merge understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Scratch,
    Stage(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// What stands behind `FROM`.
    from: String,
    pub(super) lines: Vec<String>,
    /// Variables set by `ENV` here or in the stages below.
    pub(super) env: BTreeMap<String, String>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<String>,
}

pub(super) struct Stages<'a> {
    definition: &'a Definition,
    pub(super) stages: Vec<Stage>,
    trees: HashMap<Made, Tree>,
    /// How often each tree is still to be used. One that is used once can be gone on with in its own stage.
    uses: HashMap<Made, usize>,
    /// The one platform all vertices have, if they do.
    is_one_platform: bool,
    pub(super) files: BTreeMap<String, ContextFile>,
    empty: Option<usize>,
}

/// Where an edge's tree comes from.
fn made(definition: &Definition, edge: &Edge) -> Made {
    let vertex = definition.vertex(&edge.vertex).expect("definitions have no dangling edges");
    let position = match vertex.op() {
        Op::File(file) => file.actions.iter().position(|action| action.output == Some(edge.output)),
        Op::Source(_) | Op::Exec(_) | Op::Merge(_) | Op::Diff(_) => Some(edge.output.0),
    };
    (edge.vertex, position.expect("definitions have no edges to missing outputs"))
}

fn action_made(vertex: &Vertex, definition: &Definition, input: ActionInput) -> Option<Made> {
    match input {
        ActionInput::Scratch => None,
        ActionInput::Input(index) => Some(made(definition, &input_edge(vertex, index))),
        ActionInput::Action(position) => Some((vertex.digest(), position)),
    }
}

fn input_edge(vertex: &Vertex, index: InputIndex) -> Edge {
    vertex.input(index).expect("definitions have no indexes past the end")
}

fn count_uses(definition: &Definition) -> HashMap<Made, usize> {
    let mut uses = HashMap::new();
    let mut count = |made: Option<Made>| {
        if let Some(made) = made {
            *uses.entry(made).or_insert(0) += 1;
        }
    };
    let input =
        |vertex: &Vertex, index: Option<InputIndex>| index.map(|index| made(definition, &input_edge(vertex, index)));
    count(Some(made(definition, &definition.head())));
    for vertex in definition.vertices() {
        match vertex.op() {
            Op::Source(_) => {}
            Op::Exec(exec) => exec.mounts.iter().for_each(|mount| count(input(vertex, mount.input))),
            Op::File(file) => {
                for action in &file.actions {
                    count(action_made(vertex, definition, action.input));
                    count(action_made(vertex, definition, action.secondary_input));
                }
            }
            Op::Merge(merge) => merge.inputs.iter().for_each(|index| count(input(vertex, Some(*index)))),
            Op::Diff(diff) => {
                count(input(vertex, diff.lower));
                count(input(vertex, diff.upper));
            }
        }
    }
    uses
}

impl<'a> Stages<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        let mut platforms: Vec<Platform> = definition.vertices().iter().filter_map(Vertex::platform).collect();
        platforms.sort_unstable();
        platforms.dedup();
        Self {
            definition,
            stages: Vec::new(),
            trees: HashMap::new(),
            uses: count_uses(definition),
            is_one_platform: platforms.len() <= 1,
            files: BTreeMap::new(),
            empty: None,
        }
    }

    pub(super) fn vertex(&mut self, vertex: &Vertex) -> Result<(), Unsayable> {
        match vertex.op() {
            Op::Source(source) => {
                let stage = self.source(vertex, source)?;
                self.trees.insert((vertex.digest(), 0), Tree::Stage(stage));
                Ok(())
            }
            Op::Exec(exec) => self.exec(vertex, exec),
            Op::File(file) => self.file(vertex, file),
            Op::Merge(merge) => self.merge(vertex, merge),
            // Said by who uses it.
            Op::Diff(_) => Ok(()),
        }
    }

    /// The text of all stages; the last one holds the tree of `head`.
    pub(super) fn finish(mut self, head: &Edge) -> Result<(String, BTreeMap<String, ContextFile>), Unsayable> {
        let mut tree = self.tree(made(self.definition, head))?;
        // Variables for the steps are no business of the image: a copy of the files leaves them behind.
        let carries_env = |stage: &Stage| !stage.env.is_empty() || stage.user.is_some() || stage.workdir.is_some();
        if let Tree::Stage(stage) = tree
            && carries_env(&self.stages[stage])
        {
            tree = Tree::Stage(self.copy_of(tree, "the result, without the settings of its steps")?);
        }
        let last = match tree {
            Tree::Stage(stage) if self.stages[stage].from != "scratch" || self.stages[stage].lines.len() > 1 => stage,
            Tree::Stage(_) | Tree::Scratch => self.start(&self.name(tree), "the result"),
        };
        Ok((self.text(last), self.files))
    }

    /// The stages a stage needs, before it; itself last.
    fn text(&self, last: usize) -> String {
        let mut order = Vec::new();
        let mut stack = vec![(last, self.needed(last))];
        while let Some((stage, needed)) = stack.last_mut() {
            match needed.pop() {
                Some(next) if !order.contains(&next) => {
                    let needed = self.needed(next);
                    stack.push((next, needed));
                }
                Some(_) => {}
                None => {
                    order.push(*stage);
                    stack.pop();
                }
            }
        }
        let named = |text: &str| {
            let mut pieces = text.split(MARK);
            let mut named = pieces.next().unwrap_or_default().to_owned();
            // Outside and inside of marks take turns.
            while let (Some(stage), Some(rest)) = (pieces.next(), pieces.next()) {
                let position = order.iter().position(|known| known.to_string() == stage);
                let position = position.expect("every stage needed was put in order");
                write!(named, "s{position}{rest}").expect("a string grows as needed");
            }
            named
        };
        let mut text = String::new();
        for (position, number) in order.iter().enumerate() {
            let stage = &self.stages[*number];
            let is_last = *number == last;
            let alias = if is_last { String::new() } else { format!(" AS s{position}") };
            // What a stage begins with stands above it.
            let (title, lines) = stage.lines.split_first().expect("every stage has a title");
            write!(text, "{title}\nFROM {}{alias}\n", named(&stage.from)).expect("a string grows as needed");
            for line in lines {
                writeln!(text, "{}", named(line)).expect("a string grows as needed");
            }
            if !is_last {
                text.push('\n');
            }
        }
        text
    }

    /// The stages a stage refers to, the first last.
    fn needed(&self, stage: usize) -> Vec<usize> {
        let Stage { from, lines, .. } = &self.stages[stage];
        let marked = std::iter::once(from).chain(lines).flat_map(|line| line.split(MARK).skip(1).step_by(2));
        let mut needed: Vec<usize> = marked.filter_map(|number| number.parse().ok()).collect();
        needed.reverse();
        needed
    }

    /// Begins a stage and gives its number.
    pub(super) fn start(&mut self, from: &str, title: &str) -> usize {
        self.stages.push(Stage {
            from: from.to_owned(),
            lines: vec![format!("# {}", comment(title))],
            env: BTreeMap::new(),
            user: None,
            workdir: None,
        });
        self.stages.len() - 1
    }

    /// A tree's name behind `FROM` and in `--from`.
    pub(super) fn name(&self, tree: Tree) -> String {
        match tree {
            Tree::Scratch => "scratch".to_owned(),
            Tree::Stage(stage) => format!("{MARK}{stage}{MARK}"),
        }
    }

    /// A tree's name in `--from`, where there is no `scratch`.
    pub(super) fn copyable(&mut self, tree: Tree) -> String {
        match tree {
            Tree::Stage(_) => self.name(tree),
            Tree::Scratch => {
                let empty = match self.empty {
                    Some(empty) => empty,
                    None => self.start("scratch", "an empty directory"),
                };
                self.empty = Some(empty);
                self.name(Tree::Stage(empty))
            }
        }
    }

    /// The tree of something made before, to look at.
    pub(super) fn tree(&self, made: Made) -> Result<Tree, Unsayable> {
        match self.trees.get(&made) {
            Some(tree) => Ok(*tree),
            // Only differences have none.
            None => Err(Unsayable::Diff),
        }
    }

    pub(super) fn input(&self, vertex: &Vertex, index: Option<InputIndex>) -> Result<Tree, Unsayable> {
        match index {
            None => Ok(Tree::Scratch),
            Some(index) => self.tree(made(self.definition, &input_edge(vertex, index))),
        }
    }

    /// A stage that holds a tree and can be gone on with.
    pub(super) fn extend(&mut self, tree: Option<Made>, title: &str) -> Result<usize, Unsayable> {
        let Some(made) = tree else {
            return Ok(self.start("scratch", title));
        };
        let tree = self.tree(made)?;
        match tree {
            Tree::Stage(stage) if self.uses.get(&made) == Some(&1) && self.is_own(stage, made) => {
                // Nobody else wants it as it was.
                self.trees.remove(&made);
                self.stages[stage].lines.push(format!("# {}", comment(title)));
                Ok(stage)
            }
            Tree::Stage(stage) => {
                let Stage { env, user, workdir, .. } = self.stages[stage].clone();
                let next = self.start(&self.name(tree), title);
                let new = &mut self.stages[next];
                (new.env, new.user, new.workdir) = (env, user, workdir);
                Ok(next)
            }
            Tree::Scratch => Ok(self.start("scratch", title)),
        }
    }

    /// Whether nothing else that was made is the end of the same stage.
    fn is_own(&self, stage: usize, made: Made) -> bool {
        self.trees.iter().all(|(other, tree)| {
            *other == made || *tree != Tree::Stage(stage) || self.uses.get(other).copied().unwrap_or(0) == 0
        })
    }

    /// A stage with the files of a tree and nothing else of it.
    pub(super) fn copy_of(&mut self, tree: Tree, title: &str) -> Result<usize, Unsayable> {
        let from = self.copyable(tree);
        let stage = self.start("scratch", title);
        self.stages[stage].lines.push(format!("COPY --from={from} / /"));
        Ok(stage)
    }

    /// ` --platform=…` where it does not go without saying.
    fn platform(&self, vertex: &Vertex) -> String {
        match vertex.platform() {
            Some(platform) if !self.is_one_platform => format!("--platform={platform} "),
            Some(_) | None => String::new(),
        }
    }

    fn source(&mut self, vertex: &Vertex, source: &SourceOp) -> Result<usize, Unsayable> {
        let platform = self.platform(vertex);
        let title = vertex.name();
        match source {
            SourceOp::Image(image) => {
                Ok(self.start(&format!("{platform}{}@{}", image.repository, image.digest), &title))
            }
            SourceOp::OciLayout(layout) => {
                Ok(self.start(&format!("{platform}{}", flag("the name of a layout", &layout.name)?), &title))
            }
            SourceOp::Local(local) => {
                let flags = local_flags(local)?;
                let stage = self.start("scratch", &title);
                self.stages[stage].lines.push(format!("COPY --from={}{flags} / /", flag("a name", &local.name)?));
                Ok(stage)
            }
            SourceOp::Git(git) => {
                let url = git_url(git)?;
                let keep = if git.keep_git_dir { " --keep-git-dir=true" } else { "" };
                let stage = self.start("scratch", &title);
                self.stages[stage].lines.push(format!("ADD{keep} {} /", paths(&[&url])?));
                Ok(stage)
            }
            SourceOp::Http(http) => {
                let name = match &http.filename {
                    Some(name) => name.clone(),
                    None => url_name(&http.url)?,
                };
                let stage = self.start("scratch", &title);
                let HttpSource { url, checksum, perm, uid, gid, .. } = http;
                let chown = if (*uid, *gid) == (0, 0) { String::new() } else { format!(" --chown={uid}:{gid}") };
                let chmod = perm.unwrap_or(0o600);
                let paths = paths(&[url, &format!("/{name}")])?;
                self.stages[stage].lines.push(format!("ADD --checksum={checksum} --chmod={chmod:04o}{chown} {paths}"));
                Ok(stage)
            }
        }
    }

    fn exec(&mut self, vertex: &Vertex, exec: &ExecOp) -> Result<(), Unsayable> {
        let root = exec.rootfs().expect("definitions have no exec without a root filesystem");
        if root.selector.is_some() {
            return Err(Unsayable::RootSelector);
        }
        for mount in &exec.mounts {
            let is_used = mount.output.is_some_and(|output| self.uses.contains_key(&(vertex.digest(), output.0)));
            if is_used && mount.dest != "/" {
                return Err(Unsayable::MountOutput(mount.dest.clone()));
            }
        }
        let flags = self.mount_flags(vertex, exec)?;
        let base = root.input.map(|index| made(self.definition, &input_edge(vertex, index)));
        let stage = self.extend(base, &vertex.name())?;
        self.run(stage, exec, &flags)?;
        if let Some(output) = root.output {
            self.trees.insert((vertex.digest(), output.0), Tree::Stage(stage));
        }
        Ok(())
    }

    fn file(&mut self, vertex: &Vertex, file: &FileOp) -> Result<(), Unsayable> {
        let title = vertex.name();
        let mut is_first = true;
        for (position, action) in file.actions.iter().enumerate() {
            let base = action_made(vertex, self.definition, action.input);
            let title = if is_first { title.clone() } else { crate::dump::file_action(&action.kind) };
            let stage = match &action.kind {
                FileActionKind::Rm(rm) => self.without(base, rm, &title)?,
                FileActionKind::Copy(_)
                | FileActionKind::Mkfile(_)
                | FileActionKind::Mkdir(_)
                | FileActionKind::Symlink(_) => {
                    let line = self.file_action(vertex, action)?;
                    let stage = self.extend(base, &title)?;
                    self.stages[stage].lines.push(line);
                    stage
                }
            };
            is_first = false;
            self.trees.insert((vertex.digest(), position), Tree::Stage(stage));
        }
        Ok(())
    }

    /// There is no instruction that removes; but one that copies everything else.
    fn without(&mut self, base: Option<Made>, rm: &RmAction, title: &str) -> Result<usize, Unsayable> {
        let tree = base.map_or(Ok(Tree::Scratch), |made| self.tree(made))?;
        let relative = rm.path.trim_start_matches('/');
        let pattern = if rm.allow_wildcard {
            // In one name `**` means no more than `*`; in an exclude pattern it would cross directories.
            let mut pattern = relative.to_owned();
            while pattern.contains("**") {
                pattern = pattern.replace("**", "*");
            }
            pattern
        } else {
            literal_pattern(relative)?
        };
        let from = self.copyable(tree);
        let stage = self.start("scratch", title);
        let pattern = flag("a path to remove", &pattern)?;
        self.stages[stage].lines.push(format!("COPY --from={from} --exclude={pattern} / /"));
        Ok(stage)
    }

    /// The tree an action copies from, and whether it is a download with its URL and checksum.
    pub(super) fn copied_from(
        &self,
        vertex: &Vertex,
        action: &FileAction,
    ) -> Result<(Tree, Option<&'a HttpSource>), Unsayable> {
        let download = match action.secondary_input {
            ActionInput::Input(index) => {
                let producer = self.definition.vertex(&input_edge(vertex, index).vertex);
                producer.and_then(|producer| match producer.op() {
                    Op::Source(SourceOp::Http(http)) => Some(http),
                    Op::Source(SourceOp::Image(_) | SourceOp::OciLayout(_) | SourceOp::Local(_) | SourceOp::Git(_))
                    | Op::Exec(_)
                    | Op::File(_)
                    | Op::Merge(_)
                    | Op::Diff(_) => None,
                })
            }
            ActionInput::Scratch | ActionInput::Action(_) => None,
        };
        let tree = match action_made(vertex, self.definition, action.secondary_input) {
            None => Tree::Scratch,
            Some(made) => self.tree(made)?,
        };
        Ok((tree, download))
    }

    fn merge(&mut self, vertex: &Vertex, merge: &MergeOp) -> Result<(), Unsayable> {
        let made_of = |index: &InputIndex| made(self.definition, &input_edge(vertex, *index));
        let mut current = made_of(&merge.inputs[0]);
        let mut stage = None;
        for index in &merge.inputs[1..] {
            let next = made_of(index);
            match self.difference(next) {
                // A tree and what another one has more than it: the other one.
                Some((lower, upper)) if stage.is_none() && lower == Some(current) => current = upper,
                Some(_) => return Err(Unsayable::Diff),
                None => {
                    let tree = self.tree(next)?;
                    let from = self.copyable(tree);
                    let open = match stage {
                        Some(open) => open,
                        None => self.extend(Some(current), &vertex.name())?,
                    };
                    self.stages[open].lines.push(format!("COPY --link --from={from} / /"));
                    stage = Some(open);
                }
            }
        }
        let tree = match stage {
            Some(stage) => Tree::Stage(stage),
            None => {
                let tree = self.tree(current)?;
                if self.uses.get(&current) == Some(&1) {
                    self.trees.remove(&current);
                }
                tree
            }
        };
        self.trees.insert((vertex.digest(), 0), tree);
        Ok(())
    }

    /// What a difference is of; `None` for anything else.
    fn difference(&self, made_by: Made) -> Option<(Option<Made>, Made)> {
        let vertex = self.definition.vertex(&made_by.0)?;
        let Op::Diff(DiffOp { lower, upper: Some(upper) }) = vertex.op() else {
            return None;
        };
        let made_of = |index: InputIndex| made(self.definition, &input_edge(vertex, index));
        Some((lower.map(made_of), made_of(*upper)))
    }
}

/// The selection of a local directory as `--exclude` flags: what is to be included is excepted from excluding all.
fn local_flags(local: &LocalSource) -> Result<String, Unsayable> {
    if !local.follow_paths.is_empty() {
        return Err(Unsayable::FollowPaths);
    }
    let mut patterns = Vec::new();
    if !local.include.is_empty() {
        // An exception among the excludes would take in what was never included.
        if local.exclude.iter().any(|pattern| pattern.trim_start().starts_with('!')) {
            return Err(Unsayable::Include);
        }
        patterns.push("*".to_owned());
        patterns.extend(local.include.iter().map(|pattern| match pattern.trim().strip_prefix('!') {
            Some(excluded) => excluded.to_owned(),
            None => format!("!{}", pattern.trim()),
        }));
    }
    patterns.extend(local.exclude.iter().cloned());
    exclude_flags(&patterns)
}

pub(super) fn exclude_flags(patterns: &[String]) -> Result<String, Unsayable> {
    let flags = patterns.iter().map(|pattern| Ok(format!(" --exclude={}", flag("a pattern", pattern)?)));
    flags.collect()
}

fn git_url(git: &GitSource) -> Result<String, Unsayable> {
    let is_web = git.remote.starts_with("https://") || git.remote.starts_with("http://");
    if !is_web || !git.remote.ends_with(".git") {
        return Err(Unsayable::GitRemote(git.remote.clone()));
    }
    Ok(match &git.subdir {
        Some(subdir) => format!("{}#{}:{subdir}", git.remote, git.commit),
        None => format!("{}#{}", git.remote, git.commit),
    })
}

pub(super) fn url_name(url: &str) -> Result<String, Unsayable> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    match path.rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => Ok(name.to_owned()),
        Some(_) | None => Err(Unsayable::UrlWithoutName(url.to_owned())),
    }
}
