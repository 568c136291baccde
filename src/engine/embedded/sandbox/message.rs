//! What passes between clawbuild and its helper: JSON, each message after its length, over one socket.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::spec::Spec;
use crate::userns::Identity;

/// Anything longer is not one of ours.
const LONGEST: u32 = 64 << 20;

/// The one message to the helper. After it the socket stays open: when it closes, the step is killed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: Spec,
    pub(super) identity: Identity,
    /// An empty directory the helper mounts its own files on, in its own mount namespace.
    pub(super) staging: std::path::PathBuf,
    /// `cgroup.procs` files to join.
    pub(super) cgroups: Vec<std::path::PathBuf>,
}

/// The one message from the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command ran and ended with this code: its own, or 128 and the number of the signal that ended it.
    Exited(i32),
    /// The command could not be run.
    Refused(Refusal),
}

pub(super) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let mut framed = length.to_le_bytes().to_vec();
    framed.extend(body);
    to.write_all(&framed)
}

pub(super) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
