//! Sending images.
//!
//! The order keeps what others see whole: blobs, then manifests by digest, children before the index that lists them,
//! and all tags in one last short step. A push that dies anywhere before that has changed nothing anyone looks at, and
//! the next one finds what it sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use diag::progress::Task;
use futures::future::try_join_all;
use oci::{Descriptor, Digest, Reference, Repository, Tag};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use store::Store;

use super::document::{ACCEPTED, Document};
use super::endpoint::Direction;
use super::pull::{resolve, short};
use super::session::{Call, Name, Payload, Session, content_digest};
use super::upload::{Blob, Sent};
use super::{ImageError, Images};
use crate::progress::Meter;

/// What is to be sent, and under which names.
#[derive(Clone, Debug)]
pub struct Push<'a> {
    /// The manifest or index; it, its blobs and everything it lists are in the store.
    pub image: &'a Descriptor,
    /// Where it goes.
    pub repository: &'a Repository,
    /// The tags it gets.
    pub tags: &'a [Tag],
    /// More tags it gets, which must not name another image already: those of exact versions.
    pub fixed_tags: &'a [Tag],
    /// Repositories of the same registry that may have some of the blobs.
    pub mount_from: &'a [Repository],
}

/// What a push came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReceipt {
    /// The image by its digest. The registry has said that this is what it holds.
    pub reference: Reference,
    /// The tags that now name it.
    pub tags: Vec<Tag>,
    /// Blobs and manifests that were sent.
    pub uploaded: Traffic,
    /// Those that were there.
    pub skipped: Traffic,
    /// Blobs taken from other repositories of the registry.
    pub mounted: Traffic,
}

/// A number of blobs and manifests, and their length in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// A manifest or index to send.
#[derive(Debug)]
struct Part {
    descriptor: Descriptor,
    bytes: Bytes,
    /// The blobs it names, if it is a manifest.
    blobs: Vec<Descriptor>,
}

impl Images {
    /// Sends an image from the store: what is missing in the registry, and no more. The tags move in one last step.
    ///
    /// # Errors
    /// [`ImageError`]. What was sent before the failure is found by the next push; no tag has moved, unless the
    /// failure is in that last step.
    pub async fn push(&self, push: &Push<'_>, task: &Task) -> Result<PushReceipt, ImageError> {
        let store = self.0.downloader.store();
        let mut parts = Vec::new();
        collect(store, push, push.image, &mut parts)?;

        let same_registry =
            |other: &&Repository| other.registry() == push.repository.registry() && *other != push.repository;
        let mount_from: Vec<&Repository> = push.mount_from.iter().filter(same_registry).collect();
        let session = self.session(push.repository, Direction::Push, mount_from.iter().copied()).await?;

        // Before anything is sent: a version that is taken stays so.
        let tags: Vec<&Tag> = push.tags.iter().chain(push.fixed_tags).collect();
        let named = try_join_all(tags.iter().map(|tag| tagged(&session, tag))).await?;
        for (tag, found) in tags.iter().zip(&named).skip(push.tags.len()) {
            if let Some(found) = found.filter(|found| *found != push.image.digest) {
                let (repository, tag) = (push.repository.clone(), (*tag).clone());
                return Err(ImageError::TagTaken { repository, tag, found });
            }
        }

        let mut receipt = PushReceipt {
            reference: push.repository.with_digest(push.image.digest),
            tags: tags.iter().map(|tag| (*tag).clone()).collect(),
            uploaded: Traffic::default(),
            skipped: Traffic::default(),
            mounted: Traffic::default(),
        };
        let missing = missing(&session, parts, &mut receipt.skipped).await?;

        let blobs: BTreeMap<Digest, &Descriptor> =
            missing.iter().flat_map(|part| &part.blobs).map(|blob| (blob.digest, blob)).collect();
        let sent = try_join_all(blobs.values().map(|descriptor| {
            let blob = Blob { store, session: &session, descriptor, mount_from: &mount_from };
            let meter = Meter::new(task, short(&descriptor.digest));
            async move { blob.send(&meter).await }
        }))
        .await?;
        for (blob, sent) in blobs.values().zip(sent) {
            match sent {
                Sent::Uploaded => receipt.uploaded.add(blob.size),
                Sent::Skipped => receipt.skipped.add(blob.size),
                Sent::Mounted => receipt.mounted.add(blob.size),
            }
        }

        // Children come before what lists them, so one after the other.
        for part in &missing {
            put_manifest(&session, Name::Digest(&part.descriptor.digest), &part.descriptor, &part.bytes).await?;
            receipt.uploaded.add(part.descriptor.size);
        }
        let root = Bytes::from(store.read_blob(&push.image.digest)?);
        let moving = tags.iter().zip(&named).filter(|(_, found)| **found != Some(push.image.digest));
        try_join_all(moving.map(|(tag, _)| put_manifest(&session, Name::Tag(tag), push.image, &root))).await?;
        Ok(receipt)
    }
}

/// Everything below a manifest or index, children first.
fn collect(store: &Store, push: &Push<'_>, root: &Descriptor, parts: &mut Vec<Part>) -> Result<(), ImageError> {
    if parts.iter().any(|part| part.descriptor.digest == root.digest) {
        return Ok(());
    }
    let reference = push.repository.with_digest(root.digest);
    let bytes = store.read_blob(&root.digest)?;
    let blobs = match Document::parse(&bytes, &root.media_type, &reference)? {
        Document::Manifest(manifest) => manifest.layers.into_iter().chain([manifest.config]).collect(),
        Document::Index(index) => {
            let children = index.descriptors().map_err(|source| ImageError::Document {
                reference: Box::new(reference),
                source: serde::de::Error::custom(source),
            })?;
            for child in &children {
                collect(store, push, child, parts)?;
            }
            Vec::new()
        }
    };
    parts.push(Part { descriptor: root.clone(), bytes: bytes.into(), blobs });
    Ok(())
}

/// What a tag names now.
async fn tagged(session: &Session, tag: &Tag) -> Result<Option<Digest>, ImageError> {
    match resolve(session, &session.repository.with_tag(tag.clone())).await {
        Ok(descriptor) => Ok(Some(descriptor.digest)),
        // A repository that is not there yet has no tags.
        Err(ImageError::NotFound(_) | ImageError::NoRepository { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The parts the registry does not have. A registry that has a manifest has what it names.
async fn missing(session: &Session, parts: Vec<Part>, skipped: &mut Traffic) -> Result<Vec<Part>, ImageError> {
    let there = async |part: &Part| {
        let url = session.manifest_url(Name::Digest(&part.descriptor.digest));
        let call = Call::new(Method::HEAD, url).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        Ok::<_, ImageError>(session.call(&call, &[StatusCode::NOT_FOUND]).await?.status().is_success())
    };
    let whole = match parts.last() {
        Some(root) => there(root).await?,
        None => true,
    };
    let present = if whole { vec![true; parts.len()] } else { try_join_all(parts.iter().map(there)).await? };
    let mut missing = Vec::new();
    for (part, present) in parts.into_iter().zip(present) {
        if present {
            let sizes = part.blobs.iter().map(|blob| blob.size).chain([part.descriptor.size]);
            sizes.for_each(|size| skipped.add(size));
        } else {
            missing.push(part);
        }
    }
    Ok(missing)
}

/// Gives a manifest a name, and sees to it that the registry understood the same bytes.
async fn put_manifest(
    session: &Session,
    name: Name<'_>,
    descriptor: &Descriptor,
    bytes: &Bytes,
) -> Result<(), ImageError> {
    let media_type = HeaderValue::from_str(&descriptor.media_type).map_err(|_| ImageError::MediaType {
        reference: Box::new(session.repository.with_digest(descriptor.digest)),
        media_type: descriptor.media_type.clone(),
    })?;
    let call = Call::new(Method::PUT, session.manifest_url(name))
        .header(CONTENT_TYPE, media_type)
        .payload(Payload::Bytes(bytes.clone()));
    let response = session.call(&call, &[]).await?;
    let reference = match name {
        Name::Tag(tag) => session.repository.with_tag(tag.clone()),
        Name::Digest(digest) => session.repository.with_digest(*digest),
    };
    let found = match content_digest(response.headers()) {
        Some(found) => found,
        None => resolve(session, &reference).await?.digest,
    };
    if found == descriptor.digest {
        Ok(())
    } else {
        Err(ImageError::Digest { reference: Box::new(reference), expected: descriptor.digest, found })
    }
}
