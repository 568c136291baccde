//! The boot contract: a finished image is run, and what it does compared with what every image promises.
//!
//! Four containers see everything: one that only renders the configuration with every override set; one as the image
//! is meant to be run, with a read-only root and secrets in files; one of a user nobody declared; one whose root could be
//! written to, to see that it is not. [`container`] is what they need of whatever runs them.

mod container;
mod docker;
mod embedded;
mod finding;
mod look;
mod process;
mod settings;
mod trial;

pub use finding::{Outcome, Report, Verdict};

use diag::{Diagnostic, codes};
use oci::Platform;
use recipe::{ContractPoint, Recipe};

use super::{Built, ImageName, Product, Session};
use crate::cli::Failure;
use container::Runner;
use docker::DockerRunner;
use embedded::EmbeddedRunner;
use finding::Findings;
use trial::Trial;

/// Runs a finished image and looks at every point of the contract.
///
/// # Errors
/// No container could be run, which says nothing about the image.
pub async fn test_image(
    session: &Session,
    recipe: &Recipe,
    built: &Built,
    name: &ImageName,
) -> Result<Report, Failure> {
    let platform = built.plan.platform;
    if Platform::host().is_some_and(|host| host.architecture != platform.architecture) {
        return Err(Diagnostic::new(codes::contract::ENGINE, format!("this machine runs no images for {platform}"))
            .help("test it on a machine of that platform; `clawbuild check` looks at it anywhere")
            .into());
    }
    let image = config(session, built)?.config;
    let runner = runner(session, recipe, built, &image, name).await?;
    let mut trial = Trial {
        recipe,
        image: &image,
        runner: &*runner,
        cancel: session.cancel(),
        secrets: settings::canaries(recipe),
        findings: Findings::default(),
        log: Vec::new(),
    };
    trial.run().await?;
    let Trial { findings, log, .. } = trial;
    Ok(Report {
        name: name.shown().familiar(),
        platform,
        digest: built.image.manifest.digest,
        runner: runner.name(),
        verdicts: findings.verdicts(&recipe.contract, ContractPoint::Health),
        log,
    })
}

/// The config the image has in the store.
pub(super) fn config(session: &Session, built: &Built) -> Result<oci::ImageConfig, Failure> {
    let bytes = session.store().read_blob(&built.image.config.digest)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Diagnostic::new(codes::cli::BUG, "the config of a finished image cannot be read").caused_by(&error).into()
    })
}

async fn runner(
    session: &Session,
    recipe: &Recipe,
    built: &Built,
    image: &oci::ContainerConfig,
    name: &ImageName,
) -> Result<Box<dyn Runner>, Failure> {
    let tmpfs = recipe.image.tmpfs.iter().map(|path| path.value.to_string()).collect();
    let (platform, manifest) = (built.plan.platform, built.image.manifest.digest);
    match session.embedded().await? {
        Some(engine) => {
            Ok(Box::new(EmbeddedRunner::new(session, engine, manifest, platform, image.clone(), tmpfs).await?))
        }
        None if session.engine().await?.name() == "docker" => {
            let product = Product::new(session, vec![built.clone()])?;
            super::docker::load(session, &product, name).await?;
            let scratch = session.store().temp().join("secrets");
            Ok(Box::new(DockerRunner::new(name.shown().to_string(), image.clone(), tmpfs, scratch).await?))
        }
        None => Err(Diagnostic::new(codes::contract::ENGINE, "builders run no images")
            .help("test with `--engine embedded` or `--engine docker`")
            .into()),
    }
}
