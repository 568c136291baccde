//! `clawbuild TARGET…`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use diag::{Diagnostic, codes};
use engine::{CacheSpec, CacheUse, SecretId};
use oci::layer::compress::Compression;
use oci::{Platform, Repository};
use recipe::Tier;
use secrecy::SecretSlice;

use super::arguments::{Build, LayerCompression};
use super::output::{self, Finished};
use crate::cli::Failure;
use crate::pipeline::{
    ImageName, ImageOptions, Locking, Naming, OutputSpec, Product, Session, SolveOptions, build_base, build_image,
    ensure_locked, push_image, record_bases,
};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{Target, Workspace};

/// Builds the targets, one after the other; what they share is built once.
pub(crate) fn build(settings: &Settings, arguments: &Build, printer: &Printer) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let targets = if arguments.all {
        let all = Target::all(&workspace)?;
        all.into_iter().filter(|target| !is_deferred(target, printer)).collect()
    } else {
        let found = arguments.targets.iter().map(|word| Target::find_all(&workspace, word));
        found.collect::<Result<Vec<_>, _>>()?.concat()
    };
    let settings = &arguments.sources.apply(settings, &targets)?;
    let request = Request::new(settings, arguments)?;
    request.check(&targets)?;
    super::run_building(settings, printer, arguments.jobs, async |session| {
        let mut finished: Vec<Finished> = Vec::new();
        for target in &targets {
            let siblings = pushed_already(target, &targets, &finished);
            finished.push(one(session, target, &request, &siblings, printer).await?);
        }
        Ok(finished)
    })
    .and_then(|finished| output::report(&finished, arguments, printer))
}

/// Whether a target waits for being named.
fn is_deferred(target: &Target, printer: &Printer) -> bool {
    let Target::Recipe { loaded, .. } = target else { return false };
    let Some(why) = &loaded.recipe.deferred else { return false };
    printer.warn(format_args!("{} is left out until it is named: {why}", loaded.recipe.name.value));
    true
}

/// What the command line says, read.
struct Request {
    /// Sorted, each once; empty where the command line names none.
    platforms: Vec<Platform>,
    options: ImageOptions,
    outputs: Vec<OutputSpec>,
    naming: Naming,
    push: bool,
    by_digest: bool,
    insecure: bool,
}

impl Request {
    fn new(settings: &Settings, arguments: &Build) -> Result<Self, Failure> {
        let platforms: BTreeSet<Platform> = arguments.platform.iter().copied().collect();
        let mut outputs = arguments.output.iter().map(|text| text.parse()).collect::<Result<Vec<OutputSpec>, _>>()?;
        if arguments.load {
            outputs.push(OutputSpec::DockerLoad);
        }
        let naming = Naming {
            tags: arguments.naming.tags.clone(),
            repository: arguments.naming.repository.clone(),
            github_owner: settings.variables.github_owner.clone(),
        };
        let compression = match arguments.compression {
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
            LayerCompression::None => Compression::None,
        };
        let caches = |words: &[String], cache_use| {
            words.iter().map(|word| CacheSpec::parse(word, cache_use)).collect::<Result<Vec<CacheSpec>, _>>()
        };
        let solve = SolveOptions {
            no_cache: arguments.no_cache,
            secrets: secrets(&arguments.secret)?,
            agents: agents(&arguments.ssh, settings)?,
            cache_from: caches(&arguments.cache_from, CacheUse::Import)?,
            cache_to: caches(&arguments.cache_to, CacheUse::Export)?,
        };
        let options = ImageOptions { compression, solve };
        Ok(Self {
            platforms: platforms.into_iter().collect(),
            options,
            outputs,
            naming,
            push: arguments.push,
            by_digest: arguments.by_digest,
            insecure: arguments.naming.insecure,
        })
    }
}

impl Request {
    /// What one name or one file can hold is one image.
    fn check(&self, targets: &[Target]) -> Result<(), Failure> {
        let (true, Some(name)) = (targets.len() > 1, self.naming.tags.iter().find(|tag| tag.contains(['/', ':', '@'])))
        else {
            return Ok(());
        };
        let message = format!("{} images cannot all be called `{name}`", targets.len());
        Err(Diagnostic::new(codes::cli::USAGE, message)
            .help("give only the tag, and the repository the runtime's image has: `--repository ghcr.io/OWNER/NAME -t TAG`")
            .into())
    }
}

/// `NAME=FILE`, or `NAME` from the variable of that name.
fn secrets(words: &[String]) -> Result<BTreeMap<SecretId, SecretSlice<u8>>, Failure> {
    let read = |word: &String| {
        let (name, value) = match word.split_once('=') {
            Some((name, file)) => {
                (name, std::fs::read(file).map_err(|error| format!("`{file}` cannot be read: {error}")))
            }
            None => (
                word.as_str(),
                std::env::var(word).map(String::into_bytes).map_err(|_| format!("the variable `{word}` is not set")),
            ),
        };
        match value {
            Ok(value) => Ok((SecretId(name.to_owned()), SecretSlice::from(value))),
            Err(why) => {
                Err(Diagnostic::new(codes::cli::USAGE, format!("the secret `{name}` is not there")).cause(why).into())
            }
        }
    };
    words.iter().map(read).collect()
}

/// `ID=SOCKET`, or `ID` for the agent of this session.
fn agents(words: &[String], settings: &Settings) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let read = |word: &String| match word.split_once('=') {
        Some((id, socket)) if !id.is_empty() && !socket.is_empty() => Ok((id.to_owned(), PathBuf::from(socket))),
        Some(_) => Err(Diagnostic::new(codes::cli::USAGE, format!("`{word}` is not ID=SOCKET")).into()),
        None => match &settings.variables.ssh_agent {
            Some(socket) => Ok((word.clone(), socket.clone())),
            None => Err(Diagnostic::new(codes::cli::USAGE, "no SSH agent is running: SSH_AUTH_SOCK is not set")
                .help("start one with `ssh-agent`, or name its socket: `--ssh default=SOCKET`")
                .into()),
        },
    };
    words.iter().map(read).collect()
}

/// Builds one target.
async fn one(
    session: &Session,
    target: &Target,
    request: &Request,
    siblings: &[Repository],
    printer: &Printer,
) -> Result<Finished, Failure> {
    let attempt = async |locking| attempt(session, target, request, siblings, locking, printer).await;
    unless_superseded(session, printer, attempt).await
}

/// Where the last image that stands on the same profile was pushed by this run: it has the layers the next one shares.
fn pushed_already(target: &Target, targets: &[Target], finished: &[Finished]) -> Vec<Repository> {
    let last = targets.iter().zip(finished).rev().find(|(other, _)| other.stands_on() == target.stands_on());
    let destinations = last.filter(|(_, finished)| !finished.pushed.is_empty());
    let destinations = destinations.and_then(|(_, finished)| finished.name.destinations().ok()).unwrap_or_default();
    destinations.into_iter().map(|(repository, _)| repository).collect()
}

/// The repositories of the runtime and the profiles that a target's image stands on.
fn below(target: &Target, plan: &plan::Plan, naming: &Naming) -> Result<Vec<Repository>, Failure> {
    let Target::Recipe { loaded, .. } = target else { return Ok(Vec::new()) };
    let recipe = &loaded.recipe;
    let profiles = recipe.profiles_of(&loaded.tier).into_iter().rev();
    let tiers = profiles.map(|profile| Tier::Profile(profile.name.value.clone())).chain([Tier::Runtime]);
    let mut repositories = Vec::new();
    for tier in tiers.filter(|tier| *tier != loaded.tier) {
        let name = ImageName::of_tier(plan, &tier, naming)?;
        repositories.extend(name.destinations()?.into_iter().map(|(repository, _)| repository));
    }
    Ok(repositories)
}

/// Tries it. Where the archive has replaced what the lock pins, and the lock may change, just that is resolved anew, said
/// loudly, and it is tried once more.
pub(super) async fn unless_superseded<T>(
    session: &Session,
    printer: &Printer,
    attempt: impl AsyncFn(Locking) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let settings = session.settings();
    let first = attempt(if settings.locked { Locking::Locked } else { Locking::Missing }).await;
    match first {
        Err(failure) if !settings.locked && failure.superseded_owner().is_some() => {
            let owner = failure.superseded_owner().unwrap_or_default().to_owned();
            printer.warn(format_args!("{failure}; resolving {owner} anew"));
            attempt(Locking::Named(owner)).await
        }
        other => other,
    }
}

async fn attempt(
    session: &Session,
    target: &Target,
    request: &Request,
    siblings: &[Repository],
    locking: Locking,
    printer: &Printer,
) -> Result<Finished, Failure> {
    let say = |changes: Vec<String>| changes.iter().for_each(|change| printer.say(format_args!("locked {change}")));
    let platforms = match &request.platforms[..] {
        [] => vec![session.platform().await?],
        platforms => platforms.to_vec(),
    };
    let (built, workspace, lock) = match target {
        Target::Recipe { loaded, workspace } => {
            let (lock, changes) =
                ensure_locked(session, workspace, &[loaded], plan::Requests::default(), &locking).await?;
            say(changes);
            let one = |platform| build_image(session, workspace, loaded, &lock, platform, &request.options);
            (futures::future::try_join_all(platforms.iter().copied().map(one)).await?, workspace, lock)
        }
        Target::Base { name, workspace } => {
            let requests =
                plan::Requests::of_base(workspace.project()?, name, &[Platform::LINUX_AMD64, Platform::LINUX_ARM64])?;
            let (lock, changes) = ensure_locked(session, workspace, &[], requests, &locking).await?;
            say(changes);
            let one = |platform| build_base(session, workspace, name, &lock, platform);
            (futures::future::try_join_all(platforms.iter().copied().map(one)).await?, workspace, lock)
        }
    };
    let product = Product::new(session, built)?;
    let name = ImageName::of(&product.first().plan, &request.naming)?;
    let outputs = if request.outputs.is_empty() && !request.push {
        vec![OutputSpec::Oci { destination: default_destination(workspace, &product) }]
    } else {
        request.outputs.clone()
    };
    let mut exported = Vec::new();
    for output in &outputs {
        exported.push(crate::pipeline::export(session, &product, &name, output, &request.options.solve).await?);
    }
    let pushed = if request.push {
        let mut destinations = name.destinations()?;
        if request.by_digest {
            destinations.iter_mut().for_each(|(_, tags)| tags.clear());
        }
        let mut siblings = siblings.to_vec();
        siblings.extend(below(target, &product.first().plan, &request.naming)?);
        push_image(session, product.root().clone(), &destinations, &siblings, request.insecure).await?
    } else {
        Vec::new()
    };
    if let (Target::Base { name: base, .. }, true) = (target, request.push)
        && let Some((repository, _)) = name.destinations()?.first()
    {
        let recorded = record_bases(session, workspace, lock, base, product.images(), repository)?;
        recorded.iter().for_each(|line| printer.say(line));
    }
    Ok(Finished { product, name, exported, pushed })
}

/// `dist/openclaw` beside the recipes.
fn default_destination(workspace: &Workspace, product: &Product) -> PathBuf {
    let dist = workspace.root().join("dist");
    let target = &product.first().plan.target;
    match product.images() {
        [one] if Platform::host().is_some_and(|host| host != one.plan.platform) => {
            dist.join(format!("{}-{}", target.component(), one.plan.platform.architecture))
        }
        _ => dist.join(target.component()),
    }
}
