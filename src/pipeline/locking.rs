//! Bringing the lock up to date: what it lacks is resolved, the rest is left alone.

use std::collections::BTreeSet;

use diag::progress::{Outcome, Task, TaskId};
use diag::{Diagnostic, codes};
use plan::Requests;
use recipe::{DebianRequest, GitRequest, Lock, Name, ReleaseRequest, Stale};

use super::{Session, dependencies};
use crate::cli::Failure;
use crate::resolve;
use crate::workspace::{LoadedRecipe, LockOrigin, RecipeDirectory, Workspace};

/// How far the lock may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locking {
    /// Not at all.
    Locked,
    /// What is missing is added.
    Missing,
    /// Everything is resolved anew.
    All,
    /// What has this name is resolved anew: a package, a base (`base/node`) or a recipe.
    Named(String),
}

/// Makes sure the lock answers everything these recipes and bases ask, and gives it.
///
/// # Errors
/// A stale lock where it must not change, or whatever stands in the way of resolving.
pub async fn ensure_locked(
    session: &Session,
    workspace: &Workspace,
    recipes: &[&LoadedRecipe],
    extra: Requests,
    locking: &Locking,
) -> Result<(Lock, Vec<String>), Failure> {
    ensure(session, workspace, recipes, extra, locking, Unasked::Keep).await
}

/// As [`ensure_locked`], for everything the workspace has: answers that nothing asks for any more are dropped.
///
/// # Errors
/// As [`ensure_locked`].
pub async fn ensure_all_locked(
    session: &Session,
    workspace: &Workspace,
    recipes: &[&LoadedRecipe],
    locking: &Locking,
) -> Result<(Lock, Vec<String>), Failure> {
    let project = workspace.project()?;
    let mut bases = Requests::default();
    for base in project.bases().filter(|base| base.is_pinned()) {
        let platforms = [oci::Platform::LINUX_AMD64, oci::Platform::LINUX_ARM64];
        bases.merge(Requests::of_base(project, &base.name.value, &platforms)?);
    }
    ensure(session, workspace, recipes, bases, locking, Unasked::Drop).await
}

/// What becomes of answers that none of the requests at hand asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unasked {
    Keep,
    Drop,
}

async fn ensure(
    session: &Session,
    workspace: &Workspace,
    recipes: &[&LoadedRecipe],
    extra: Requests,
    locking: &Locking,
    unasked: Unasked,
) -> Result<(Lock, Vec<String>), Failure> {
    let (mut lock, origin) = workspace.lock()?;
    let project = workspace.project()?;
    let mut requests = extra;
    for loaded in recipes {
        requests.merge(Requests::of(&loaded.recipe, project)?);
    }
    let mut changes = Vec::new();
    let task = TaskId::new("lock");
    let wanted = Wanted::of(&requests, &lock, locking);
    if !wanted.is_empty() {
        refuse_if_fixed(session, locking, &wanted.stale)?;
        let task = session.progress().task(task, "[lock] resolve");
        let result = resolve_all(session, workspace, &mut lock, &wanted, &task).await;
        match &result {
            Ok(lines) => {
                changes.extend(lines.iter().cloned());
                task.finish(Outcome::Done);
            }
            Err(failure) => task.finish(Outcome::Failed(failure.to_string())),
        }
        result?;
    }
    for loaded in recipes {
        lock_dependencies(session, workspace, loaded, &mut lock, locking, &mut changes).await?;
    }
    // A recipe of the user's gets a lock of its own, however much of it the program knew already.
    let first = origin == LockOrigin::Embedded
        && (!changes.is_empty() || recipes.iter().any(|loaded| matches!(loaded.directory, RecipeDirectory::Disk(_))));
    if (first || unasked == Unasked::Drop) && *locking != Locking::Locked {
        let names: Vec<Name> = recipes.iter().map(|loaded| loaded.recipe.name.value.clone()).collect();
        lock.retain(&requests.releases, &requests.commits, &requests.debian, &names);
        lock.retain_published(|owner| match owner.strip_prefix(plan::DEBIAN_OWNER_BASE) {
            Some(base) => project.bases().any(|known| known.name.value.as_str() == base),
            None => requests.debian.iter().any(|request| request.owner == owner),
        });
    }
    let text = lock.to_string();
    let changed = match &origin {
        LockOrigin::File(old) => *old != text,
        LockOrigin::Embedded => first,
    };
    if changed && *locking != Locking::Locked {
        workspace.write_lock(&lock)?;
    }
    Ok((lock, changes))
}

/// The requests that have to be resolved, and why those that were not asked for by name.
struct Wanted<'a> {
    releases: Vec<&'a ReleaseRequest>,
    commits: Vec<&'a GitRequest>,
    debian: Vec<&'a DebianRequest>,
    stale: Vec<Stale>,
}

impl<'a> Wanted<'a> {
    fn of(requests: &'a Requests, lock: &Lock, locking: &Locking) -> Self {
        let named = |names: &[&str]| match locking {
            Locking::Locked | Locking::Missing => false,
            Locking::All => true,
            Locking::Named(name) => names.contains(&name.as_str()),
        };
        let mut stale = Vec::new();
        let releases = requests.releases.iter().filter(|request| {
            let missing = lock.release(request).map_err(|why| stale.push(why)).is_err();
            missing || named(&[&request.package])
        });
        let releases = releases.collect();
        let commits = requests.commits.iter().filter(|request| {
            let missing = lock.commit(request).map_err(|why| stale.push(why)).is_err();
            missing || named(&[&request.url])
        });
        let commits = commits.collect();
        let mut renewed: BTreeSet<(&str, oci::Platform)> = BTreeSet::new();
        let mut debian = Vec::new();
        for request in &requests.debian {
            let missing = lock.debian(request).map_err(|why| stale.push(why)).is_err();
            // A set is what its packages need beyond the sets below, so it follows when one of those changes.
            let follows = request.below.as_deref().is_some_and(|below| renewed.contains(&(below, request.platform)));
            if missing || follows || named(&names(&request.owner)) {
                renewed.insert((&request.owner, request.platform));
                debian.push(request);
            }
        }
        Self { releases, commits, debian, stale }
    }

    fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.commits.is_empty() && self.debian.is_empty()
    }
}

/// By what names a set is asked for: a base with and without its prefix, a profile's also by its recipe's.
fn names(owner: &str) -> [&str; 3] {
    let (recipe, _) = owner.split_once(':').unwrap_or((owner, ""));
    [owner, owner.trim_start_matches("base/"), recipe]
}

fn refuse_if_fixed(session: &Session, locking: &Locking, stale: &[Stale]) -> Result<(), Failure> {
    if *locking == Locking::Locked {
        return Err(Failure::several(stale.iter().map(diag::Reported::diagnostic).collect()));
    }
    if session.settings().offline && !session.has_mirrors() {
        let missing: Vec<String> = stale.iter().map(|stale| format!("{}: {}", stale.request, stale.reason)).collect();
        return Err(Diagnostic::new(
            codes::lock::OFFLINE,
            format!("{} inputs are not locked, and the network is off", missing.len()),
        )
        .related("missing", missing)
        .help("run `clawbuild lock` once without `--offline`")
        .into());
    }
    Ok(())
}

async fn resolve_all(
    session: &Session,
    workspace: &Workspace,
    lock: &mut Lock,
    wanted: &Wanted<'_>,
    task: &Task,
) -> Result<Vec<String>, Failure> {
    let mut changes = Vec::new();
    let releases = wanted.releases.iter().map(|request| resolve::release(session, request, task));
    for entry in futures::future::try_join_all(releases).await? {
        let registry = entry.registry.as_str();
        changes.push(format!("{registry} {} {}", entry.package, entry.version));
        lock.put_release(entry);
    }
    for request in &wanted.commits {
        let entry = resolve::commit(session, request, task).await?;
        changes.push(format!("git {} {} is {}", entry.url, entry.reference, entry.commit));
        lock.put_commit(entry);
    }
    let platforms: BTreeSet<oci::Platform> = wanted.debian.iter().map(|request| request.platform).collect();
    for platform in platforms {
        let indexes = resolve::Indexes::fetch(session, workspace, &wanted.debian, platform, task).await?;
        for request in wanted.debian.iter().filter(|request| request.platform == platform) {
            let entry = resolve::debian(&indexes, lock, request)?;
            changes.push(format!("{}: {} packages for {}", entry.owner, entry.packages.len(), entry.platform));
            lock.put_debian(entry);
        }
    }
    Ok(changes)
}

async fn lock_dependencies(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    lock: &mut Lock,
    locking: &Locking,
    changes: &mut Vec<String>,
) -> Result<(), Failure> {
    let name: &Name = &loaded.recipe.name.value;
    let update = match locking {
        Locking::Locked | Locking::Missing => false,
        Locking::All => true,
        Locking::Named(named) => named == name.as_str(),
    };
    let why = match dependencies::need(workspace, loaded, lock, update)? {
        dependencies::Need::Nothing => return Ok(()),
        dependencies::Need::Record(_) if *locking == Locking::Locked => {
            "the file changed without clawbuild.lock".to_owned()
        }
        dependencies::Need::Record(entry) => {
            changes.push(format!("{}: {}", entry.target, entry.file));
            lock.put_dependencies(entry);
            return Ok(());
        }
        dependencies::Need::Resolve { reason } => reason,
    };
    let refused = |code, message: String| {
        Diagnostic::new(code, message).cause(why.clone()).label(
            &loaded.recipe.source,
            loaded.recipe.origin.span,
            "of this source",
        )
    };
    if *locking == Locking::Locked {
        return Err(refused(
            codes::lock::DEPENDENCIES,
            format!("the dependencies of `{name}` are not what clawbuild.lock pins"),
        )
        .help("run `clawbuild lock`, look at what changed, and commit both files")
        .into());
    }
    if session.settings().offline {
        return Err(refused(
            codes::lock::OFFLINE,
            format!("the dependencies of `{name}` are not locked, and the network is off"),
        )
        .help("run `clawbuild lock` once without `--offline`")
        .into());
    }
    let entry = dependencies::resolve(session, workspace, loaded, lock).await?;
    changes.push(format!("{}: {} by {}", entry.target, entry.file, entry.manager));
    lock.put_dependencies(entry);
    Ok(())
}
