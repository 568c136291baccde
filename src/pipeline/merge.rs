//! Images that several machines built, each for its own platform, joined into one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use diag::{Diagnostic, codes};
use oci::{Descriptor, Document as _, Index, Platform, Reference, Repository, Tag};

use super::push::client;
use super::{Naming, ProductMetadata, Pushed, Run, push_image};
use crate::cli::Failure;
use crate::workspace::WorkspaceError;

/// What several metadata files say of one target.
struct Parts {
    images: BTreeMap<Platform, Descriptor>,
    /// Where every machine pushed it.
    repositories: BTreeSet<Repository>,
    names: BTreeSet<Reference>,
}

/// Joins what `--metadata-file` wrote on each machine: every target's images become one index in the repository they
/// were pushed to, and all its tags are set in the last step.
///
/// # Errors
/// Files that do not fit together, and whatever the registry says.
pub async fn merge(run: &Run, files: &[PathBuf], naming: &Naming, insecure: bool) -> Result<Vec<Pushed>, Failure> {
    let mut targets: BTreeMap<String, Parts> = BTreeMap::new();
    for file in files {
        for product in read(file)? {
            add(&mut targets, product, file)?;
        }
    }
    let mut pushed = Vec::new();
    for (target, parts) in targets {
        let Some(repository) = parts.repositories.first() else {
            let message = format!("the images of `{target}` were not pushed to one repository");
            return Err(Diagnostic::new(codes::cli::MERGE, message)
                .help("build with `--push --by-digest` and the same `--repository` on every machine")
                .into());
        };
        let tags = tags(&parts, repository, naming)?;
        let images = client(run, [repository].into_iter(), insecure);
        for image in parts.images.values() {
            images.fetch_manifest(&repository.with_digest(image.digest)).await?;
        }
        let index = Index::new(parts.images.into_values().collect());
        run.store().put_blob(&index.to_bytes())?;
        pushed.extend(push_image(run, index.descriptor(), &[(repository.clone(), tags)], &[], insecure).await?);
    }
    Ok(pushed)
}

fn read(file: &Path) -> Result<Vec<ProductMetadata>, Failure> {
    let text = std::fs::read(file).map_err(|source| WorkspaceError::Read { path: file.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|error| {
        Diagnostic::new(codes::cli::MERGE, format!("`{}` is no metadata file: {error}", file.display()))
            .help("`clawbuild TARGET --push --by-digest --metadata-file FILE` writes them")
            .into()
    })
}

fn add(targets: &mut BTreeMap<String, Parts>, product: ProductMetadata, file: &Path) -> Result<(), Failure> {
    let bad = |what: String| Failure::from(Diagnostic::new(codes::cli::MERGE, format!("`{}`: {what}", file.display())));
    let parse = |text: &String| text.parse::<Reference>().map_err(|error| bad(error.to_string()));
    let pushed = product.pushed.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let pushed: BTreeSet<Repository> = pushed.into_iter().map(|reference| reference.repository).collect();
    let names = product.references.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let parts = targets.entry(product.target.clone()).or_insert_with(|| Parts {
        images: BTreeMap::new(),
        repositories: pushed.clone(),
        names: BTreeSet::new(),
    });
    parts.repositories.retain(|repository| pushed.contains(repository));
    parts.names.extend(names);
    for image in product.images {
        let platform: Platform = image.platform.parse().map_err(|error| bad(format!("{error}")))?;
        let manifest = Descriptor { platform: Some(platform), ..image.manifest };
        match parts.images.insert(platform, manifest.clone()) {
            Some(other) if other.digest != manifest.digest => {
                let message = format!("there are two images of `{}` for {platform}", product.target);
                let digests = vec![other.digest.to_string(), manifest.digest.to_string()];
                return Err(Diagnostic::new(codes::cli::MERGE, message)
                    .related("images", digests)
                    .help("build each platform on one machine only")
                    .into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The tags given, or those the machines would have set.
fn tags(parts: &Parts, repository: &Repository, naming: &Naming) -> Result<Vec<Tag>, Failure> {
    if naming.tags.is_empty() {
        let own = parts.names.iter().filter(|name| name.repository == *repository);
        return Ok(own.filter_map(|name| name.tag.clone()).collect());
    }
    let parse =
        |tag: &String| tag.parse::<Tag>().map_err(|error| Diagnostic::new(codes::cli::USAGE, error.to_string()).into());
    naming.tags.iter().map(parse).collect()
}
