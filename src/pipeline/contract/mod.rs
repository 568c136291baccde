//! The boot contract: a finished image is run, and what it does compared with what every image promises.
//!
//! Five containers see everything: one that only renders the configuration with every override set; one as the image
//! is meant to be run, with a read-only root and secrets in files; one started as root, to see that it does not stay that;
//! one of a user nobody declared; one whose root could be written to, to see that it is not. [`container`] is what they need of whatever runs them.

mod container;
mod docker;
mod embedded;
mod execution;
mod finding;
mod look;
mod process;
mod settings;
mod trial;

pub use execution::Execution;
pub use finding::{Outcome, Report, Verdict};

use diag::{Diagnostic, codes};
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
    execution: &Execution,
) -> Result<Report, Failure> {
    let platform = built.plan.platform;
    let image = config(session, built)?.config;
    let runner = runner(session, recipe, built, &image, name, execution).await?;
    let mut trial = Trial {
        recipe,
        image: &image,
        runner: &*runner,
        slowness: execution.slowness(),
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
    execution: &Execution,
) -> Result<Box<dyn Runner>, Failure> {
    let tmpfs = recipe.image.tmpfs.iter().map(|path| path.value.to_string()).collect();
    let (platform, manifest) = (built.plan.platform, built.image.manifest.digest);
    match session.embedded().await? {
        Some(engine) => {
            let runner = EmbeddedRunner::new(session, engine, manifest, platform, image.clone(), tmpfs).await?;
            Ok(Box::new(runner.running(execution)))
        }
        None if execution.emulator().is_some() => {
            Err(Diagnostic::new(codes::contract::ENGINE, "only the embedded engine's sandbox emulates")
                .help("test with `--engine embedded`")
                .into())
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
