//! File operations that an old daemon does not know, in operations it does.

use std::sync::Arc;

use bollard_buildkit_proto::pb;
use bollard_buildkit_proto::pb::file_action::Action;
use engine::{MissingCapability, SolveError};
use llb::{ActionInput, Cap, FileActionKind, FileOp, Vertex};
use oci::layer::tar::{Entry, TarWriter};
use oci::{DiffId, Digest};
use prost::Message as _;
use store::{Bucket, Key};

use super::Solve;
use super::filter::{self, Filter};
use super::graph::{Lowered, Place};
use super::images::{Content, ImageLayer};
use crate::docker::engine::NAME;

/// Changed with whatever changes what is removed.
const REMOVALS: &str = "docker's removals 1";
/// `pb.Empty`, `pb.SkipOutput`, no mode and no time.
const NONE: i64 = -1;
const NO_MODE: i32 = -1;

/// A file operation being changed.
struct Changing {
    op: pb::FileOp,
    inputs: Vec<Place>,
}

impl Changing {
    /// Adds an input, behind the others. Actions are counted after inputs, so their numbers move.
    fn input(&mut self, place: Place) -> i64 {
        let count = signed(self.inputs.len());
        let moved = |index: &mut i64| {
            if *index >= count {
                *index += 1;
            }
        };
        for action in &mut self.op.actions {
            moved(&mut action.input);
            moved(&mut action.secondary_input);
            let owner = match &mut action.action {
                Some(Action::Copy(copy)) => &mut copy.owner,
                Some(Action::Mkfile(mkfile)) => &mut mkfile.owner,
                Some(Action::Mkdir(mkdir)) => &mut mkdir.owner,
                Some(Action::Symlink(symlink)) => &mut symlink.owner,
                Some(Action::Rm(_)) | None => continue,
            };
            for account in owner.iter_mut().flat_map(|owner| [&mut owner.user, &mut owner.group]).flatten() {
                if let Some(pb::user_opt::User::ByName(named)) = &mut account.user {
                    moved(&mut named.input);
                }
            }
        }
        self.inputs.push(place);
        count
    }

    /// Puts an action in front of another, on what that one works on.
    fn insert(&mut self, position: usize, action: Action) {
        let number = signed(self.inputs.len() + position);
        let actions = &mut self.op.actions;
        for action in actions.iter_mut() {
            for index in [&mut action.input, &mut action.secondary_input] {
                if *index >= number {
                    *index += 1;
                }
            }
        }
        let next = &mut actions[position];
        let input = std::mem::replace(&mut next.input, number);
        actions.insert(position, pb::FileAction { input, secondary_input: NONE, output: NONE, action: Some(action) });
    }

    /// A copy with a mode gives it to the directories it makes to copy into, today. Old daemons do not, so the
    /// directories are made first.
    fn make_parents(&mut self) {
        let mut position = 0;
        while let Some(action) = self.op.actions.get(position) {
            position += 1;
            let Some(Action::Copy(copy)) = &action.action else { continue };
            let asked = copy.dest.rsplit_once('/').map_or("", |(parent, _)| parent);
            if copy.mode == NO_MODE || !copy.create_dest_path || asked.is_empty() {
                continue;
            }
            let (path, mode) = (asked.to_owned(), copy.mode);
            let (owner, timestamp) = (copy.owner.clone(), copy.timestamp);
            let mkdir = pb::FileActionMkDir { path, mode, make_parents: true, owner, timestamp };
            self.insert(position - 1, Action::Mkdir(mkdir));
            position += 1;
        }
    }
}

impl Solve<'_> {
    /// Sends a file operation, in other words where the daemon does not know its own.
    pub(super) async fn file(&mut self, vertex: &Vertex, file: &FileOp) -> Result<(), SolveError> {
        let mut op = pb::Op::decode(vertex.encoded()).expect("vertices are encoded ops");
        let Some(pb::op::Op::File(encoded)) = op.op.take() else { unreachable!("file operations are encoded as such") };
        let mut changing = Changing { op: encoded, inputs: self.places(vertex)? };
        if !self.tools.caps.contains(&Cap::FileSymlinkCreate) {
            self.symlinks(vertex, file, &mut changing).await?;
        }
        if !self.tools.caps.contains(&Cap::FileCopyIncludeExcludePatterns) {
            for position in 0..file.actions.len() {
                self.patterns(vertex, file, position, &mut changing).await?;
            }
        }
        changing.make_parents();
        op.op = Some(pb::op::Op::File(changing.op));
        let digest = self.graph.add(op, changing.inputs, self.metadata(vertex));
        self.put(vertex, Lowered { digest, only: None });
        Ok(())
    }

    /// Symbolic links are copied from an image that has them.
    async fn symlinks(&mut self, vertex: &Vertex, file: &FileOp, changing: &mut Changing) -> Result<(), SolveError> {
        let is_link = |kind: &FileActionKind| matches!(kind, FileActionKind::Symlink(_));
        if !file.actions.iter().any(|action| is_link(&action.kind)) {
            return Ok(());
        }
        let mut tar = TarWriter::new(Vec::new());
        let time = self.request.source_date_epoch.unwrap_or(0);
        for (number, action) in file.actions.iter().enumerate() {
            if let FileActionKind::Symlink(symlink) = &action.kind {
                let entry = Entry::symlink(format!("{number}"), symlink.target.as_str()).with_mtime(time);
                tar.append_empty(&entry).expect("what a graph holds as a link's target, an archive can");
            }
        }
        let bytes = tar.finish().expect("memory takes everything");
        let layer = ImageLayer { diff_id: DiffId(Digest::of(&bytes)), content: Content::Bytes(Arc::new(bytes)) };
        let platform = self.request.platform;
        let task = format!("load the symbolic links of {}", vertex.name());
        let place = self.tree(&[layer], platform, &task, pb::OpMetadata::default()).await?;
        let input = changing.input(place);
        for (number, action) in changing.op.actions.iter_mut().enumerate() {
            if let Some(Action::Symlink(symlink)) = action.action.clone() {
                action.secondary_input = input;
                action.action = Some(Action::Copy(pb::FileActionCopy {
                    src: format!("/{number}"),
                    dest: symlink.newpath,
                    // As the operation has it: root's, unless told otherwise.
                    owner: symlink.owner,
                    mode: -1,
                    timestamp: symlink.timestamp,
                    ..pb::FileActionCopy::default()
                }));
            }
        }
        Ok(())
    }

    /// What patterns leave out of a copy is removed from a copy of its own, and that is copied.
    async fn patterns(
        &mut self,
        vertex: &Vertex,
        file: &FileOp,
        position: usize,
        changing: &mut Changing,
    ) -> Result<(), SolveError> {
        let action = &file.actions[position];
        let FileActionKind::Copy(copy) = &action.kind else { return Ok(()) };
        if copy.include.is_empty() && copy.exclude.is_empty() {
            return Ok(());
        }
        let lost = || SolveError::MissingCapabilities {
            engine: NAME,
            missing: vec![MissingCapability {
                cap: Cap::FileCopyIncludeExcludePatterns,
                vertex: vertex.name(),
                locations: self.request.definition.source_map().locations(&vertex.digest()).to_vec(),
            }],
        };
        let ActionInput::Input(index) = action.secondary_input else { return Err(lost()) };
        let filter = Filter::of(copy).ok_or_else(lost)?;
        let source = changing.inputs[index.0];

        let description = vertex.metadata().description.clone();
        let metadata = |caps: &[Cap]| pb::OpMetadata {
            description: description.clone(),
            caps: caps.iter().map(|cap| (cap.as_str().to_owned(), true)).collect(),
            ..pb::OpMetadata::default()
        };
        let whole =
            pb::FileAction { input: NONE, secondary_input: 0, output: 0, action: Some(Action::Copy(filter.whole())) };
        let whole = file_op(vec![whole]);
        let whole = Place { op: self.graph.add(whole, vec![source], metadata(&[Cap::FileBase])), output: 0 };

        let removals = self.removals(whole, &filter).await?;
        let mut actions = Vec::with_capacity(removals.len());
        let count = removals.len();
        for (number, removal) in removals.into_iter().enumerate() {
            actions.push(pb::FileAction {
                input: signed(number),
                secondary_input: NONE,
                output: if number + 1 == count { 0 } else { NONE },
                action: Some(Action::Rm(removal)),
            });
        }
        let left = match actions.is_empty() {
            true => whole,
            false => {
                let caps = metadata(&[Cap::FileBase, Cap::FileRmWildcard]);
                Place { op: self.graph.add(file_op(actions), vec![whole], caps), output: 0 }
            }
        };
        let input = changing.input(left);
        let action = &mut changing.op.actions[position];
        action.secondary_input = input;
        if let Some(Action::Copy(copy)) = &mut action.action {
            copy.include_patterns.clear();
            copy.exclude_patterns.clear();
            // It was followed when the copy was made.
            copy.follow_symlink = false;
        }
        Ok(())
    }

    /// What to remove from a copied tree. It is looked at once: its layers tell whether it is the same as before.
    async fn removals(&mut self, tree: Place, filter: &Filter) -> Result<Vec<pb::FileActionRm>, SolveError> {
        let made = self.export(tree).await?;
        let diff_ids: Vec<String> = made.diff_ids.iter().map(ToString::to_string).collect();
        let patterns = filter.identity();
        let parts = [REMOVALS, &patterns].into_iter().chain(diff_ids.iter().map(String::as_str));
        let key = Key::of(parts.map(str::as_bytes));
        let removal = |(path, allow_wildcard)| pb::FileActionRm { path, allow_not_found: false, allow_wildcard };
        if let Some(known) = self.tools.store.record::<Vec<(String, bool)>>(Bucket::Builders, &key) {
            return Ok(known.into_iter().map(removal).collect());
        }
        let mut paths = Vec::new();
        for (position, diff_id) in made.diff_ids.iter().enumerate() {
            let slice = self.images.layer(&made, position).await.map_err(Self::docker)?;
            let members = {
                let diff_id = *diff_id;
                crate::solve::blocking(move || slice.members(diff_id)).await
            };
            let members = members.map_err(|error| Self::docker(self.images.saved(&made, error)))?;
            paths.extend(members.into_iter().map(|member| {
                let is_directory = member.entry.kind == oci::layer::tar::Kind::Directory;
                (member.entry.path, is_directory)
            }));
        }
        let removals = filter::removals(filter, &paths);
        let record: Vec<(&str, bool)> =
            removals.iter().map(|removal| (removal.path.as_str(), removal.allow_wildcard)).collect();
        // Should it not be kept, the tree is looked at again.
        let _ = self.tools.store.put_record_unsynced(Bucket::Builders, &key, &record);
        Ok(removals)
    }
}

fn file_op(actions: Vec<pb::FileAction>) -> pb::Op {
    pb::Op {
        op: Some(pb::op::Op::File(pb::FileOp { actions })),
        constraints: Some(pb::WorkerConstraints::default()),
        ..pb::Op::default()
    }
}

fn signed(index: usize) -> i64 {
    i64::try_from(index).expect("indexes count elements of a list in memory")
}
