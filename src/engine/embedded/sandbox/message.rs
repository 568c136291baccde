//! What passes between clawbuild and its helper: JSON, each message after its length, over one socket.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::spec::Spec;
use crate::userns::Identity;

/// Anything longer is not one of ours.
const LONGEST: u32 = 64 << 20;

/// The one message to the helper. After it the socket stays open: when it closes, the command is killed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Run a command in namespaces of its own.
    Run(Request),
    /// Run a command in namespaces that are there.
    Enter(Entry),
}

/// A command to be run in namespaces of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: Spec,
    pub(super) identity: Identity,
    /// An empty directory the helper mounts its own files on, in its own mount namespace.
    pub(super) staging: std::path::PathBuf,
    /// `cgroup.procs` files to join.
    pub(super) cgroups: Vec<std::path::PathBuf>,
}

/// A command to be run beside one that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The first process of the namespaces, as this side numbers it.
    pub(super) process: i32,
    /// The command, its environment, working directory and user; mounts and network are those that are there.
    pub(super) spec: Spec,
    pub(super) identity: Identity,
}

/// The messages from the helper: perhaps that the command has begun, then what became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command's program runs, as the process of this number.
    Started(i32),
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
