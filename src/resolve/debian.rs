//! Debian packages: wanted names to pinned packages, out of signed indexes.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::time::SystemTime;

use debian::resolve::{Baseline, Request, Suite, Wanted, resolve};
use debian::{Keyring, PackageIndex, Release};
use diag::progress::Task;
use diag::{Diagnostic, Reported as _, codes};
use oci::Platform;
use recipe::{DebianRequest, Lock, LockedDebian, LockedPackage};
use registry::progress::Meter;
use registry::{Expect, Url};

use crate::cli::Failure;
use crate::pipeline::Session;
use crate::workspace::Workspace;

/// An `InRelease` file of a large archive has 150 kB.
const RELEASE_LIMIT: u64 = 8 << 20;

/// Where a suite's files lie and what they are called there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SuiteSource {
    archive: String,
    name: String,
    components: Vec<String>,
    keys: Vec<String>,
}

/// The indexes some requests need, for one platform: a second platform's would double the memory.
pub(crate) struct Indexes {
    suites: BTreeMap<SuiteSource, (Suite, i64)>,
}

/// A request's suites. `URL NAME` is a suite of another archive.
fn sources(request: &DebianRequest) -> Vec<SuiteSource> {
    let source = |text: &String| {
        let (archive, name) = text.split_once(' ').unwrap_or((&request.archive, text));
        SuiteSource {
            archive: archive.trim_end_matches('/').to_owned(),
            name: name.trim().to_owned(),
            components: request.components.clone(),
            keys: request.keys.clone(),
        }
    };
    request.suites.iter().map(source).collect()
}

impl Indexes {
    /// Fetches and verifies the indexes of `platform` that `requests` need.
    pub(crate) async fn fetch(
        session: &Session,
        workspace: &Workspace,
        requests: &[&DebianRequest],
        platform: Platform,
        task: &Task,
    ) -> Result<Self, Failure> {
        let mut wanted: BTreeMap<SuiteSource, &DebianRequest> = BTreeMap::new();
        for request in requests.iter().filter(|request| request.platform == platform) {
            for source in sources(request) {
                wanted.entry(source).or_insert(request);
            }
        }
        let fetches = wanted.into_iter().map(|(source, request)| async move {
            let place = |diagnostic: Diagnostic| diagnostic.label(&request.place.0, request.place.1, "asked for here");
            match fetch_suite(session, workspace, &source, platform, task).await {
                Ok(suite) => Ok((source, suite)),
                Err(failure) => Err(Failure::several(failure.into_diagnostics().into_iter().map(place).collect())),
            }
        });
        Ok(Self { suites: futures::future::try_join_all(fetches).await?.into_iter().collect() })
    }
}

async fn fetch_suite(
    session: &Session,
    workspace: &Workspace,
    source: &SuiteSource,
    platform: Platform,
    task: &Task,
) -> Result<(Suite, i64), Failure> {
    let base = format!("{}/dists/{}", source.archive, source.name);
    let release = session.http().get_bytes(&url(&format!("{base}/InRelease"))?, RELEASE_LIMIT).await?;
    let keyring = keyring(workspace, &source.keys)?;
    // Expiry protects against a mirror that serves an old, vulnerable state; nothing of it enters the lock.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let release = Release::verify(&release, &keyring, i64::try_from(now).ok())?;
    let architecture = platform.architecture.debian();
    let files = source.components.iter().map(|component| {
        let release = &release;
        let base = &base;
        async move {
            let file = release.packages(component, architecture)?;
            let item = format!("{} {component} {architecture}", source.name);
            let expect = Expect::sha256(file.sha256).with_size(file.size);
            let fetched = session
                .downloader()
                .fetch(&url(&format!("{base}/{}", file.path))?, &expect, &Meter::new(task, item))
                .await?;
            let blob = session.store().open_blob(&fetched.digest)?;
            let compression = file.compression;
            let index = tokio::task::spawn_blocking(move || PackageIndex::read(BufReader::new(blob), compression));
            Ok::<_, Failure>(index.await.expect("reading an index does not panic")?)
        }
    });
    let indexes = futures::future::try_join_all(files).await?;
    // As apt pins them: backports are there for those who ask for them.
    let priority = if release.not_automatic { 100 } else { 500 };
    Ok((Suite { name: source.name.clone(), priority, indexes }, release.date))
}

fn url(text: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|error| {
        Diagnostic::new(codes::recipe::BAD_VALUE, format!("`{text}` is not a URL")).caused_by(&error).into()
    })
}

fn keyring(workspace: &Workspace, names: &[String]) -> Result<Keyring, Failure> {
    let mut keyring = Keyring::default();
    for name in names {
        let Some(bytes) = workspace.key(name)? else {
            return Err(Diagnostic::new(codes::debian::KEYRING, format!("there is no keyring `base/keys/{name}`"))
                .help("export the archive's key into it, or correct `keys` in the base")
                .into());
        };
        keyring.add(name, &bytes)?;
    }
    Ok(keyring)
}

/// Resolves one request out of the indexes; sets below it must be in the lock.
pub(crate) fn debian(indexes: &Indexes, lock: &Lock, request: &DebianRequest) -> Result<LockedDebian, Failure> {
    let place = |diagnostic: Diagnostic| diagnostic.label(&request.place.0, request.place.1, "for this set");
    let sources = sources(request);
    let found: Vec<&(Suite, i64)> = sources
        .iter()
        .map(|source| indexes.suites.get(source).expect("indexes are fetched before they are used"))
        .collect();
    let suites: Vec<Suite> = found.iter().map(|(suite, _)| suite.clone()).collect();
    let below = below(lock, request);
    let wanted: Result<Vec<Wanted>, _> = request.wanted.iter().map(|text| text.parse()).collect();
    let wanted = wanted.map_err(|error: debian::resolve::ResolveError| Failure::from(place(error.diagnostic())))?;
    let solver = Request {
        architecture: request.platform.architecture.debian(),
        wanted,
        baseline: Baseline::Nothing,
        exclude: request.exclude.clone(),
        below: &below,
    };
    let packages = resolve(&suites, &solver).map_err(|error| Failure::from(place(error.diagnostic())))?;
    Ok(LockedDebian {
        owner: request.owner.clone(),
        platform: request.platform,
        archive: request.archive.clone(),
        suites: request.suites.clone(),
        components: request.components.clone(),
        wanted: request.wanted.clone(),
        exclude: request.exclude.clone(),
        below: request.below.clone(),
        epoch: found.iter().map(|(_, date)| *date).max().unwrap_or(0),
        packages: packages.into_iter().map(|package| locked(package, &sources)).collect(),
    })
}

fn locked(package: debian::LockedPackage, sources: &[SuiteSource]) -> LockedPackage {
    let source =
        sources.iter().find(|source| source.name == package.suite).expect("packages come from the suites asked");
    LockedPackage {
        url: format!("{}/{}", source.archive, package.filename),
        name: package.name,
        version: package.version,
        architecture: package.architecture,
        sha256: package.sha256,
        size: package.size,
    }
}

/// The packages in the sets a request lies on, as the solver knows them.
fn below(lock: &Lock, request: &DebianRequest) -> Vec<debian::LockedPackage> {
    let mut packages = Vec::new();
    let mut next = request.below.as_deref();
    while let Some(set) = next.and_then(|owner| lock.debian_of(owner, request.platform)) {
        packages.extend(set.packages.iter().map(crate::pipeline::debian_package));
        next = set.below.as_deref();
    }
    packages
}
