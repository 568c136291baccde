//! Single instructions.

use std::collections::BTreeSet;

use super::stage::{Stages, exclude_flags};
use super::words::{delimiter, flag, json_list, line, literal_pattern, paths, quoted};
use super::{ContextFile, Unsayable};
use crate::exec::{ExecOp, NetworkMode};
use crate::file::{Account, CopyAction, FileAction, FileActionKind, MkdirAction, MkfileAction, Owner, SymlinkAction};
use crate::mount::{CacheSharing, Mount, MountKind, SecretMount};
use crate::vertex::Vertex;

use oci::Digest;

impl Stages<'_> {
    /// The `--mount` flags of a step.
    pub(super) fn mount_flags(&mut self, vertex: &Vertex, exec: &ExecOp) -> Result<String, Unsayable> {
        let mut flags = String::new();
        for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
            let mut keys = vec![match &mount.kind {
                MountKind::Bind => "type=bind".to_owned(),
                MountKind::Cache { .. } => "type=cache".to_owned(),
                MountKind::Tmpfs { .. } => "type=tmpfs".to_owned(),
                MountKind::Secret(_) => "type=secret".to_owned(),
                MountKind::Ssh(_) => "type=ssh".to_owned(),
            }];
            let mut key = |name: &str, value: String| keys.push(format!("{name}={value}"));
            match &mount.kind {
                MountKind::Bind => {
                    let tree = self.input(vertex, mount.input)?;
                    key("from", self.copyable(tree));
                    key("source", mount_word(mount.selector.as_deref().unwrap_or("/"))?);
                }
                MountKind::Cache { id, sharing } => {
                    key("id", mount_word(&id.0)?);
                    let sharing = match sharing {
                        CacheSharing::Shared => "shared",
                        CacheSharing::Private => "private",
                        CacheSharing::Locked => "locked",
                    };
                    key("sharing", sharing.to_owned());
                    if mount.input.is_some() {
                        let tree = self.input(vertex, mount.input)?;
                        key("from", self.copyable(tree));
                        key("source", mount_word(mount.selector.as_deref().unwrap_or("/"))?);
                    }
                }
                MountKind::Tmpfs { size } => {
                    if let Some(size) = size {
                        key("size", size.to_string());
                    }
                }
                MountKind::Secret(SecretMount { id, uid, gid, mode, optional })
                | MountKind::Ssh(SecretMount { id, uid, gid, mode, optional }) => {
                    key("id", mount_word(&id.0)?);
                    key("mode", format!("{mode:04o}"));
                    if (*uid, *gid) != (0, 0) {
                        key("uid", uid.to_string());
                        key("gid", gid.to_string());
                    }
                    key("required", (!optional).to_string());
                }
            }
            key("target", mount_word(&mount.dest)?);
            if let Some(access) = access(mount) {
                keys.push(access.to_owned());
            }
            flags.push_str(&format!(" --mount={}", keys.join(",")));
        }
        Ok(flags)
    }

    /// Puts a step at the end of a stage.
    pub(super) fn run(&mut self, stage: usize, exec: &ExecOp, mounts: &str) -> Result<(), Unsayable> {
        let stage = &mut self.stages[stage];
        for var in &exec.env {
            if stage.env.get(&var.name) != Some(&var.value) {
                let name = flag("the name of a variable", &var.name)?;
                stage.lines.push(format!("ENV {name}={}", quoted("a variable", &var.value)?));
                stage.env.insert(var.name.clone(), var.value.clone());
            }
        }
        let user = exec.user.clone().unwrap_or_else(|| "root".to_owned());
        if stage.user.as_ref() != Some(&user) {
            stage.lines.push(format!("USER {}", line("the user", &user)?));
            stage.user = Some(user);
        }
        if stage.workdir.as_ref() != Some(&exec.cwd) {
            stage.lines.push(format!("WORKDIR {}", line("the working directory", &exec.cwd)?));
            stage.workdir = Some(exec.cwd.clone());
        }
        let network = match exec.network {
            NetworkMode::Sandbox => "",
            NetworkMode::Host => " --network=host",
            NetworkMode::None => " --network=none",
        };
        // What an earlier step of the stage set and this one must not see.
        let wanted: BTreeSet<&String> = exec.env.iter().map(|var| &var.name).collect();
        let unwanted: Vec<&String> = stage.env.keys().filter(|name| !wanted.contains(name)).collect();
        let mut args: Vec<&str> = Vec::new();
        if !unwanted.is_empty() {
            args.push("env");
            args.extend(unwanted.iter().flat_map(|name| ["-u", name.as_str()]));
        }
        args.extend(exec.args.iter().map(String::as_str));
        stage.lines.push(format!("RUN{mounts}{network} {}", json_list(args)));
        Ok(())
    }

    /// The instruction for an action that adds something.
    pub(super) fn file_action(&mut self, vertex: &Vertex, action: &FileAction) -> Result<String, Unsayable> {
        match &action.kind {
            FileActionKind::Copy(copy) => self.copy(vertex, action, copy),
            FileActionKind::Mkfile(mkfile) => self.mkfile(mkfile),
            FileActionKind::Mkdir(mkdir) => self.mkdir(mkdir),
            FileActionKind::Symlink(symlink) => self.symlink(symlink),
            FileActionKind::Rm(_) => unreachable!("removing is copying the rest, which is no instruction here"),
        }
    }

    fn copy(&mut self, vertex: &Vertex, action: &FileAction, copy: &CopyAction) -> Result<String, Unsayable> {
        let (tree, download) = self.copied_from(vertex, action)?;
        let flags = format!("{}{}", ownership(copy.owner.as_ref(), copy.mode)?, exclude_flags(&copy.exclude)?);
        if !copy.include.is_empty() {
            return Err(Unsayable::Include);
        }
        if copy.always_replace {
            return Err(Unsayable::Replace);
        }
        if copy.attempt_unpack {
            let http = download.ok_or(Unsayable::Unpack)?;
            let paths = paths(&[&http.url, &copy.dest])?;
            return Ok(format!("ADD --checksum={} --unpack=true{flags} {paths}", http.checksum));
        }
        // A download is one file, and it is only directories that this makes a difference for.
        if !copy.dir_copy_contents && download.is_none() {
            return Err(Unsayable::DirectoryItself);
        }
        let source = if copy.allow_wildcard { copy.src.clone() } else { literal_pattern(&copy.src)? };
        let from = self.copyable(tree);
        Ok(format!("COPY --from={from}{flags} {}", paths(&[&source, &copy.dest])?))
    }

    fn mkfile(&mut self, mkfile: &MkfileAction) -> Result<String, Unsayable> {
        let MkfileAction { path, mode, data, owner, timestamp: _ } = mkfile;
        let flags = ownership(owner.as_ref(), Some(*mode))?;
        let text = std::str::from_utf8(data)
            .ok()
            .filter(|text| (text.is_empty() || text.ends_with('\n')) && !text.contains(['\r', '\0', '\u{feff}']));
        match text {
            Some(text) => {
                let delimiter = delimiter(text);
                Ok(format!("COPY{flags} <<\"{delimiter}\" {}\n{text}{delimiter}", paths(&[path])?))
            }
            None => {
                let name = format!("files/{}", Digest::of(data).hex());
                let line = format!("COPY{flags} {}", paths(&[&name, path])?);
                self.files.insert(name, ContextFile::File(data.clone()));
                Ok(line)
            }
        }
    }

    fn mkdir(&mut self, mkdir: &MkdirAction) -> Result<String, Unsayable> {
        let MkdirAction { path, mode, make_parents: _, owner, timestamp: _ } = mkdir;
        let from = self.copyable(super::stage::Tree::Scratch);
        // The directories a copy makes above its files have the owner and mode asked for.
        let mode = (*mode != 0o755).then_some(*mode);
        Ok(format!("COPY --from={from}{} {}", ownership(owner.as_ref(), mode)?, paths(&["/", &format!("{path}/")])?))
    }

    fn symlink(&mut self, symlink: &SymlinkAction) -> Result<String, Unsayable> {
        let SymlinkAction { target, path, owner, timestamp: _ } = symlink;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // A directory of its own: only links inside what is copied stay links.
        let directory = format!("links/{}", Digest::of(format!("{name}\0{target}")).hex());
        let line = format!(
            "COPY{} {}",
            ownership(owner.as_ref(), None)?,
            paths(&[&format!("{directory}/"), &format!("{parent}/")])?
        );
        self.files.insert(format!("{directory}/{name}"), ContextFile::Symlink(target.clone()));
        Ok(line)
    }
}

/// The key that says whether a mount can be written to, where that differs from what its type means.
fn access(mount: &Mount) -> Option<&'static str> {
    match (&mount.kind, mount.readonly) {
        (MountKind::Bind, false) => Some("rw"),
        (MountKind::Cache { .. }, true) => Some("ro"),
        (MountKind::Bind, true)
        | (MountKind::Cache { .. }, false)
        | (MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_), _) => None,
    }
}

fn mount_word(text: &str) -> Result<String, Unsayable> {
    flag("a mount", text)
}

/// `--chown` and `--chmod`.
fn ownership(owner: Option<&Owner>, mode: Option<u32>) -> Result<String, Unsayable> {
    let mut flags = String::new();
    if let Some(owner) = owner {
        let account = |account: &Option<Account>| match account {
            None => Ok("0".to_owned()),
            Some(Account::Id(id)) => Ok(id.to_string()),
            Some(Account::Name { name, .. }) => flag("an owner", name),
        };
        flags.push_str(&format!(" --chown={}", account(&owner.user)?));
        if owner.group.is_some() {
            flags.push_str(&format!(":{}", account(&owner.group)?));
        }
    }
    if let Some(mode) = mode {
        flags.push_str(&format!(" --chmod={mode:04o}"));
    }
    Ok(flags)
}
