//! Whom the processes run as: the user of the manifest where the container was started as root, and otherwise whoever it
//! was started as.

use alloc::borrow::ToOwned;
use alloc::format;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::manifest::{Manifest, Volume};
use crate::sys::tree::Directory;
use crate::sys::{file, say, user, Errno};

/// Names another user than the manifest's, by number; `0` stays root. It counts only where the container starts as root.
const UID_VARIABLE: &str = "CLAW_UID";
/// Names another group than the manifest's, by number.
const GID_VARIABLE: &str = "CLAW_GID";

/// Makes the volumes usable, and gives up root.
///
/// # Errors
/// A number is none, or the system refuses to change the process's user.
pub(crate) fn settle(manifest: &Manifest, environment: &Environment) -> Result<(), Failure> {
    if user::effective() != 0 {
        for volume in &manifest.volumes {
            // An ordinary user may well not do this. What needs the directory says so when it is not there.
            let _ = file::make_dirs(&volume.path, volume.mode);
        }
        return Ok(());
    }
    let asked_uid = id(UID_VARIABLE, environment)?;
    let asked_gid = id(GID_VARIABLE, environment)?;
    let Some(declared) = &manifest.user else {
        return Ok(());
    };
    let uid = asked_uid.unwrap_or(declared.uid);
    let gid = asked_gid.unwrap_or(if asked_uid.is_some() { uid } else { declared.gid });
    for volume in &manifest.volumes {
        // Volumes of the manifest's user follow it to another number; those of other users stay theirs.
        let owner = if (volume.uid, volume.gid) == (declared.uid, declared.gid) {
            (uid, gid)
        } else {
            (volume.uid, volume.gid)
        };
        if let Err(error) = own(volume, owner) {
            // A volume may be mounted read-only, or from where root is nobody. Whether that matters, its user finds out.
            say(format_args!("cannot give {} to {}:{}: {error}", volume.path, owner.0, owner.1));
        }
    }
    if uid != 0 {
        user::become_for_good(uid, gid).map_err(Failure::system(format!("become user {uid}, group {gid}")))?;
    }
    Ok(())
}

fn id(name: &str, environment: &Environment) -> Result<Option<u32>, Failure> {
    let Some(value) = environment.get(name) else {
        return Ok(None);
    };
    // The highest number means "no user" to the kernel.
    let number =
        core::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).filter(|number| *number != u32::MAX);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::Variable {
            name: name.to_owned(),
            problem: "expected the number of a user or group".to_owned(),
        }),
    }
}

/// Gives the volume to `owner`, unless its directory is theirs already.
fn own(volume: &Volume, owner: (u32, u32)) -> Result<(), Errno> {
    file::make_dirs(&volume.path, volume.mode)?;
    // A link here is the work of whoever could write the volume's parent, and would lead anywhere.
    let directory = Directory::open(&volume.path)?;
    let status = directory.status()?;
    if (status.uid, status.gid) == owner {
        return Ok(());
    }
    directory.give(owner)
}
