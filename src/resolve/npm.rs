//! npm packages: a requirement to one version, its archive and its checksums.

use diag::progress::Task;
use diag::{Diagnostic, Reported as _, codes};
use recipe::{LockedRelease, ReleaseRequest};
use registry::Expect;
use registry::npm::{Npm, NpmError, PackageName};
use registry::progress::Meter;

use crate::cli::Failure;
use crate::pipeline::Session;

/// Resolves a request. The archive is fetched too: the registry's checksum is verified and turned into the SHA-256
/// that LLB speaks, and the build will want the archive anyway.
pub(crate) async fn npm(session: &Session, request: &ReleaseRequest, task: &Task) -> Result<LockedRelease, Failure> {
    let place = |diagnostic: Diagnostic| diagnostic.label(&request.place.0, request.place.1, "asked for here");
    let at = |error: NpmError| Failure::from(place(error.diagnostic()));
    let name: PackageName = request.package.parse().map_err(at)?;
    let release = Npm::new(session.http().clone()).version(&name, request.requirement.as_str()).await.map_err(at)?;
    let meter = Meter::new(task, format!("{} {}", request.package, release.version));
    let expect = Expect::sha512(release.integrity);
    let fetched = session
        .downloader()
        .fetch(&release.tarball, &expect, &meter)
        .await
        .map_err(|error| Failure::from(place(error.diagnostic())))?;
    let published = release.published.ok_or_else(|| {
        let message = format!("the registry does not say when {} {} was published", request.package, release.version);
        Failure::from(place(Diagnostic::new(codes::registry::MALFORMED, message)))
    })?;
    Ok(LockedRelease {
        registry: request.registry,
        architecture: None,
        package: request.package.clone(),
        requirement: request.requirement.as_str().to_owned(),
        version: release.version,
        published,
        url: release.tarball.to_string(),
        integrity: Some(release.integrity.to_string()),
        sha256: fetched.digest,
        size: fetched.size,
    })
}
