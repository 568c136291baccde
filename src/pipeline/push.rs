//! Images to registries.

use std::collections::BTreeSet;
use std::fmt;

use diag::progress::TaskId;
use oci::{Descriptor, Repository, Tag};
use registry::image::{ImageSettings, Images, Keychain, Push, PushReceipt, Traffic};

use super::Run;
use crate::cli::Failure;

/// An image that a registry now holds, under its digest and tags.
#[derive(Clone, Debug)]
pub struct Pushed(PushReceipt);

/// Pushes an image or index of the store. Every tag is set in the last step, once all content is there. Blobs that one of
/// `siblings` has are not sent again.
///
/// # Errors
/// Whatever the registry says.
pub async fn push_image(
    run: &Run,
    root: Descriptor,
    destinations: &[(Repository, Vec<Tag>)],
    siblings: &[Repository],
    insecure: bool,
) -> Result<Vec<Pushed>, Failure> {
    let images = client(run, destinations.iter().map(|(repository, _)| repository), insecure);
    // Blobs pushed to one repository can be mounted from it into the next ones of the same registry.
    let mut sources: Vec<Repository> = siblings.to_vec();
    let mut pushed = Vec::new();
    for (repository, tags) in destinations {
        let task = TaskId::new(format!("push {repository}"));
        let task = run.progress().task(task, format!("[push] {repository}"));
        let push = Push { image: &root, repository, tags, fixed_tags: &[], mount_from: &sources };
        let receipt = tokio::select! {
            receipt = images.push(&push, &task) => receipt,
            () = run.cancel().cancelled() => return Err(super::interrupted()),
        };
        pushed.push(Pushed(task.conclude(receipt)?));
        sources.insert(0, repository.clone());
    }
    Ok(pushed)
}

/// What speaks to these repositories' registries; if `insecure`, also without TLS.
pub(crate) fn client<'a>(run: &Run, repositories: impl Iterator<Item = &'a Repository>, insecure: bool) -> Images {
    let insecure: BTreeSet<String> =
        repositories.filter(|_| insecure).map(|repository| repository.registry().to_owned()).collect();
    let keychain = Keychain::from_environment(|name| std::env::var_os(name));
    Images::new(run.downloader().clone(), ImageSettings { keychain, insecure, ..ImageSettings::default() })
}

impl Pushed {
    /// The name by digest.
    #[must_use]
    pub fn reference(&self) -> String {
        self.0.reference.to_string()
    }

    /// As `--json` prints it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "reference": self.0.reference.to_string(),
            "tags": self.0.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            "uploaded": traffic(self.0.uploaded),
            "skipped": traffic(self.0.skipped),
            "mounted": traffic(self.0.mounted),
        })
    }
}

fn traffic(traffic: Traffic) -> serde_json::Value {
    serde_json::json!({ "count": traffic.count, "bytes": traffic.bytes })
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<&str> = self.0.tags.iter().map(Tag::as_str).collect();
        match &tags[..] {
            [] => write!(f, "{}", self.0.reference),
            tags => write!(f, "{} ({})", self.0.reference, tags.join(", ")),
        }
    }
}
