//! Releases of Rust, Go and Python packages: a requirement to one version and its archive.

use diag::progress::Task;
use diag::{Diagnostic, Reported as _, codes};
use recipe::{LockedRelease, Registry, ReleaseRequest};
use registry::progress::Meter;
use registry::release::{ReleaseError, Releases};

use crate::cli::Failure;
use crate::pipeline::Session;

/// Resolves a request. The archive is fetched too: not every registry says its SHA-256, and the build wants it anyway.
pub(crate) async fn release(
    session: &Session,
    request: &ReleaseRequest,
    task: &Task,
) -> Result<LockedRelease, Failure> {
    let place = |diagnostic: Diagnostic| diagnostic.label(&request.place.0, request.place.1, "asked for here");
    let at = |error: ReleaseError| Failure::from(place(error.diagnostic()));
    let (package, requirement) = (request.package.as_str(), request.requirement.as_str());
    let releases = Releases::new(session.http().clone());
    let release = match (request.registry, request.architecture) {
        (Registry::Npm, _) => return super::npm(session, request, task).await,
        (Registry::Crates, _) => releases.krate(package, requirement).await,
        (Registry::Go, _) => releases.go(package, requirement).await,
        (Registry::PyPi, Some(architecture)) => releases.wheel(package, requirement, architecture).await,
        (Registry::PyPi, None) => {
            let message = format!("the Python package {package} is asked for without an architecture");
            return Err(place(Diagnostic::new(codes::cli::BUG, message)).into());
        }
    };
    let release = release.map_err(at)?;
    let meter = Meter::new(task, format!("{package} {}", release.version));
    let fetched = session
        .downloader()
        .fetch(&release.archive, &release.expect, &meter)
        .await
        .map_err(|error| Failure::from(place(error.diagnostic())))?;
    Ok(LockedRelease {
        registry: request.registry,
        package: request.package.clone(),
        requirement: requirement.to_owned(),
        architecture: request.architecture,
        version: release.version,
        published: release.published,
        url: release.archive.to_string(),
        integrity: None,
        sha256: fetched.digest,
        size: fetched.size,
    })
}
