//! The temporary directories of processes, and those that processes left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::lock::Lock;
use crate::{StoreError, remove_tree};

/// A process's own directory below `tmp/`, removed when dropped.
///
/// `tmp/<name>.lock` is made and locked first and removed last, so a directory whose lock can be had, or that has
/// none, belongs to nobody. The directory itself is made when it is needed: removing one costs milliseconds on ext4,
/// and a build that has nothing to do needs none.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
    made: Mutex<bool>,
    // Fields are dropped after the body of `drop`, so the lock goes after the directory.
    _lock: Lock,
}

impl Temp {
    pub(crate) fn reserve(tmp: &Path) -> Result<Self, StoreError> {
        let process = std::process::id();
        loop {
            let name = format!("{process}-{:08x}", fastrand::u32(..));
            // A sweeper may see the lock's file before it is locked here, and take it away: try another name.
            let Some(lock) = Lock::try_new(&tmp.join(format!("{name}.lock")))? else { continue };
            return Ok(Self { path: tmp.join(name), made: Mutex::new(false), _lock: lock });
        }
    }

    /// The directory, made if it was not.
    pub(crate) fn directory(&self) -> Result<&Path, StoreError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !*made {
            fs::create_dir(&self.path).map_err(StoreError::io("create", &self.path))?;
            *made = true;
        }
        Ok(&self.path)
    }

    /// Where the directory is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if *self.made.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // What cannot be removed now is swept by a later process.
            let _ = remove_tree(&self.path);
        }
    }
}

/// What a process that is gone left behind. Its lock is held, so that nobody else removes it meanwhile.
#[derive(Debug)]
pub(crate) struct Leftover {
    directory: PathBuf,
    _lock: Option<Lock>,
}

impl Leftover {
    /// Everything in `tmp` that belongs to nobody. Costs one try at a lock for each live process.
    pub(crate) fn find(tmp: &Path) -> Result<Vec<Self>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(tmp).map_err(StoreError::io("read", tmp))? {
            // An entry that cannot be read may be gone already; another user's cannot be swept by us.
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                match Lock::try_existing(&path) {
                    Ok(Some(lock)) => {
                        found.push(Self { directory: path.with_extension(""), _lock: Some(lock) });
                    }
                    Ok(None) => {}
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
                    Err(error) => return Err(error),
                }
            } else if !path.with_extension("lock").exists() {
                found.push(Self { directory: path, _lock: None });
            }
        }
        Ok(found)
    }

    /// Removes it. What cannot be removed is found again by the next process, with or without its lock.
    pub(crate) fn remove(self) {
        let _ = remove_tree(&self.directory);
    }
}

/// Removes what processes that are gone left behind, beside whatever this process does next: the trees of a build
/// that was killed can be large.
pub(crate) fn sweep(tmp: &Path) -> Result<(), StoreError> {
    let leftovers = Leftover::find(tmp)?;
    if leftovers.is_empty() {
        return Ok(());
    }
    let remove = move || leftovers.into_iter().for_each(Leftover::remove);
    // Without a thread they stay until the next process.
    let _ = std::thread::Builder::new().name("store-sweep".to_owned()).spawn(remove);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_belongs_to_nobody_is_found() {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let (alive, idle) =
            (Temp::reserve(tmp.path()).expect("reserves"), Temp::reserve(tmp.path()).expect("reserves"));
        assert!(alive.directory().expect("makes").is_dir() && !idle.path().exists());
        assert!(Leftover::find(tmp.path()).expect("looks").is_empty());

        // As a killed process leaves them: a directory nobody may enter, with its lock; one without; a lock alone.
        fs::create_dir_all(tmp.path().join("1-dead/work/work")).expect("creates");
        fs::set_permissions(tmp.path().join("1-dead/work/work"), fs::Permissions::from_mode(0o000)).expect("sets");
        fs::write(tmp.path().join("1-dead.lock"), "").expect("writes");
        fs::create_dir(tmp.path().join("2-dead")).expect("creates");
        fs::write(tmp.path().join("3-dead.lock"), "").expect("writes");
        let leftovers = Leftover::find(tmp.path()).expect("looks");
        assert_eq!(leftovers.len(), 3);
        // Whoever sweeps keeps others off what has a lock.
        assert_eq!(Leftover::find(tmp.path()).expect("looks").len(), 1);
        leftovers.into_iter().for_each(Leftover::remove);

        let left: Vec<_> = fs::read_dir(tmp.path()).expect("lists").map(|e| e.expect("entry").path()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(alive.path().is_dir());
        drop((alive, idle));
        assert_eq!(fs::read_dir(tmp.path()).expect("lists").count(), 0);
    }

    #[test]
    fn creating_and_sweeping_at_once_never_takes_from_the_living() {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let temp = Temp::reserve(tmp.path()).expect("reserves");
                        fs::write(temp.directory().expect("makes").join("mine"), "").expect("writes");
                        Leftover::find(tmp.path()).expect("looks").into_iter().for_each(Leftover::remove);
                        assert!(temp.path().join("mine").exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(tmp.path()).expect("lists").count(), 0);
    }
}
