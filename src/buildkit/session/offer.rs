//! What a session offers to the daemon, and who takes what the daemon sends.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use engine::{Layout, SecretId};
use oci::Digest;
use registry::image::Keychain;
use secrecy::SecretSlice;

/// Everything a daemon may ask for during a solve. It gets nothing that is not named here.
#[derive(Debug, Default)]
pub struct Offer {
    /// Directories behind `local://NAME` sources.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Where the manifests behind `oci-layout://` sources lie, by the id in their attribute `oci.store`.
    pub layouts: BTreeMap<String, Layout>,
    /// Secrets that steps may mount.
    pub secrets: BTreeMap<SecretId, SecretSlice<u8>>,
    /// Sockets of SSH agents, by the id steps mount them by.
    pub agents: BTreeMap<String, PathBuf>,
    /// Directories that caches of type `local` are read from and written to.
    pub caches: Vec<PathBuf>,
    /// Credentials for the registries the daemon talks to on our behalf.
    pub keychain: Keychain,
    /// What becomes of the exported result.
    pub receive: Receive,
}

/// Who takes the result the daemon exports.
#[derive(Debug, Default)]
pub enum Receive {
    /// Nobody: nothing is exported.
    #[default]
    Nothing,
    /// Blobs one by one, from an exporter with `tar=false`.
    Content(Arc<dyn ContentSink>),
    /// One stream of bytes, from the exporter `tar` or one with `tar=true`.
    Stream(Arc<dyn StreamSink>),
}

/// A blob the daemon is about to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, if the daemon said it.
    pub size: Option<u64>,
    /// What the daemon calls the transfer: `layer-sha256:…`, `config-sha256:…`, `manifest-sha256:…`.
    pub reference: String,
}

/// Takes the blobs of an exported image.
pub trait ContentSink: fmt::Debug + Send + Sync {
    /// The length of a blob that need not be sent; `None` for one that is wanted.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// Takes a blob. Runs on a thread that may block; several blobs may come at once, but no blob twice at a time.
    ///
    /// `content` gives the bytes as they arrive. Its end is only reached when all of them have come and their digest
    /// is the one announced; before, reading fails. So whatever is kept of them must be kept after the end was seen.
    ///
    /// # Errors
    /// What hinders taking it. The daemon is told, and its solve fails.
    fn receive(&self, blob: &IncomingBlob, content: &mut dyn Read) -> io::Result<()>;
}

/// Takes an exported stream of bytes.
pub trait StreamSink: fmt::Debug + Send + Sync {
    /// Takes the stream. Runs on a thread that may block. `metadata` is what the exporter says of its result.
    ///
    /// `content` gives the bytes as they arrive; reading fails if the daemon breaks off.
    ///
    /// # Errors
    /// What hinders taking it. The daemon is told, and its solve fails.
    fn receive(&self, metadata: &BTreeMap<String, String>, content: &mut dyn Read) -> io::Result<()>;
}
