//! One build: read, plan for every platform, hand over.

use std::collections::BTreeMap;

use buildkit::gateway::{Environment, FrontendResult, Gateway, ImageName, PlatformResult, Warning};
use diag::{Diagnostic, codes, did_you_mean};
use llb::{Definition, Op, Vertex};
use oci::{DiffId, Digest, Document as _, History, ImageConfig, Platform, Reference, RootFs};
use plan::{Build, GivenImage, ImagePlace, LockedRecipe, Places, Plan, PublishedError};

use recipe::Tier;

use super::context::{self, Inputs};
use super::options::{NoCache, Options};
use super::report::Stop;
use crate::cli::Failure;
use crate::pipeline::image_output;

/// Images given by name, by the name and the platform it was given for.
type GivenImages = BTreeMap<(String, Platform), GivenImage>;

/// Builds what the environment asks for.
pub(super) async fn build(gateway: &Gateway, environment: Environment) -> Result<FrontendResult, Stop> {
    let options = Options::read(&environment.options, &environment.session)?;
    if let Some(name) = options.subrequest {
        return subrequest(name);
    }
    let inputs = context::read(gateway, &options).await?;
    warn(gateway, &options, inputs.vertex).await?;
    let locked = inputs.locked()?;
    let own = environment.platforms.iter().chain(gateway.platforms()).copied().chain(Platform::host());
    let worker = own.clone().find(|platform| is_built_for(&locked, *platform));
    let Some(worker) = worker else {
        let platform = own.into_iter().next().map_or_else(|| "this machine".to_owned(), |own| own.to_string());
        let span = locked.recipe.platforms.first().map(|platform| platform.span).unwrap_or_default();
        return Err(Stop::from(
            Diagnostic::new(codes::frontend::OPTION, format!("the recipe's steps cannot run on {platform}")).label(
                &locked.recipe.source,
                span,
                "inputs are locked for these platforms only",
            ),
        ));
    };
    let platforms = if options.platforms.is_empty() { vec![worker] } else { options.platforms.clone() };
    let mut results = Vec::new();
    let builds = platforms.into_iter().map(|target| one(gateway, &options, &inputs, &locked, worker, target));
    for result in futures::future::join_all(builds).await {
        results.push(result?);
    }
    match (options.is_index, results.pop()) {
        (false, Some(result)) if results.is_empty() => Ok(FrontendResult::Image(result)),
        (_, last) => Ok(FrontendResult::Index(results.into_iter().chain(last).collect())),
    }
}

fn is_built_for(locked: &LockedRecipe<'_>, platform: Platform) -> bool {
    locked.recipe.platforms.iter().any(|known| known.value == platform)
}

/// Builds for one platform.
async fn one(
    gateway: &Gateway,
    options: &Options,
    inputs: &Inputs,
    locked: &LockedRecipe<'_>,
    worker: Platform,
    target: Platform,
) -> Result<PlatformResult, Stop> {
    if !is_built_for(locked, target) {
        let known: Vec<String> = locked.recipe.platforms.iter().map(|known| known.value.to_string()).collect();
        let message = format!("`{}` is not built for {target}", locked.recipe.name.value);
        return Err(Stop::from(
            Diagnostic::new(codes::frontend::OPTION, message).help(format!("it is built for {}", known.join(", "))),
        ));
    }
    let given = given_images(gateway, options, locked, worker, target).await?;
    let find = |owner: &str, platform| given.get(&(owner.to_owned(), platform)).cloned();
    let published = locked.published(worker, target, &find).map_err(|error| match error {
        PublishedError::Plan(error) => Stop::from(error),
        PublishedError::Missing(missing) => {
            Stop::from(Failure::several(missing.iter().map(diag::Reported::diagnostic).collect()))
        }
    })?;
    let epoch = options.epoch.unwrap_or_else(|| locked.epoch());
    let mut plan = Plan::image(locked, &published.ground, Build { build: worker, target, epoch })?;
    if let (Some(stage), Tier::Runtime) = (&options.target, &inputs.tier) {
        aim(&mut plan, stage)?;
    }
    plan.image.config.labels.extend(options.labels.clone());
    let places = Places { contexts: inputs.contexts.clone(), images: published.places };
    let definition = uncached(plan.lower_to(&places).definition, &options.no_cache);
    check_caps(gateway, &definition)?;
    let packages = locked.packages(target).into_iter().map(|request| (request.owner, target));
    let own: Vec<_> = packages.filter_map(|key| published.ground.layers.get(&key)).collect();
    let base = published.ground.images.get(&(locked.recipe.image.base.value.clone(), target));
    let below: Vec<Digest> = base.into_iter().chain(own).copied().collect();
    let (reference, layers) = futures::future::try_join(
        async { gateway.solve(&definition, &options.cache_imports).await.map_err(Stop::gateway) },
        layers_of(gateway, &places, &below, target),
    )
    .await?;
    let base_config = image_config(&plan, RootFs::new(layers), Vec::new());
    let output = image_output(&plan, oci::layer::compress::Compression::default());
    let config = image_config(&plan, RootFs::new(Vec::new()), output.history);
    Ok(PlatformResult { platform: target, reference, config, base_config, epoch: epoch.0 })
}

/// The layers of images that an image lies on. Exporters that clamp times leave them alone: they are shared.
async fn layers_of(
    gateway: &Gateway,
    places: &Places,
    images: &[Digest],
    platform: Platform,
) -> Result<Vec<DiffId>, Stop> {
    let mut layers = Vec::new();
    for digest in images {
        let (name, layout) = match places.images.get(digest) {
            Some(ImagePlace::Repository(repository)) => (repository.with_digest(*digest).to_string(), None),
            Some(ImagePlace::Layout { store, session }) => {
                (format!("{store}@{digest}"), Some((store.as_str(), session.as_str())))
            }
            None => continue,
        };
        let log_name = format!("[internal] load metadata for {name}");
        let image = gateway.resolve_image(&ImageName { name: &name, layout }, platform, log_name).await;
        layers.extend(image.map_err(Stop::gateway)?.config.rootfs.diff_ids);
    }
    Ok(layers)
}

/// The images given by name for what a plan stands on.
async fn given_images(
    gateway: &Gateway,
    options: &Options,
    locked: &LockedRecipe<'_>,
    worker: Platform,
    target: Platform,
) -> Result<GivenImages, Stop> {
    let bases = locked.stands_on(worker, target)?;
    let bases = bases.iter().map(|(base, _)| (format!("base/{}", base.base.name.value), base.platform));
    let packages = locked.packages_inputs(target).into_iter().map(|(request, _)| (request.owner, target));
    let mut images = GivenImages::new();
    for (owner, platform) in bases.chain(packages) {
        let name = plan::layer_repository(&owner);
        if let Some(place) = options.context(&name, platform) {
            images.insert((owner, platform), given_image(gateway, options, &name, place, platform).await?);
        }
    }
    Ok(images)
}

async fn given_image(
    gateway: &Gateway,
    options: &Options,
    name: &str,
    place: &str,
    platform: Platform,
) -> Result<GivenImage, Stop> {
    let bad = |why: String| {
        let message = format!("what is given for `{name}` cannot be used: {why}");
        Stop::from(
            Diagnostic::new(codes::frontend::OPTION, message)
                .help(format!("write `--build-context {name}=docker-image://NAME@DIGEST`"))
                .help(format!("or `--build-context {name}=oci-layout://DIRECTORY@DIGEST`")),
        )
    };
    let (kind, text) = place.split_once("://").ok_or_else(|| bad(format!("`{place}` is no image")))?;
    match kind {
        "docker-image" => {
            let reference: Reference = text.parse().map_err(|error: oci::ReferenceError| bad(error.to_string()))?;
            let digest = match reference.digest {
                Some(digest) => digest,
                None => {
                    let full = reference.to_string();
                    let image = ImageName { name: &full, layout: None };
                    let log_name = format!("[context {name}] {reference}");
                    gateway.resolve_image(&image, platform, log_name).await.map_err(Stop::gateway)?.digest
                }
            };
            Ok((digest, ImagePlace::Repository(reference.repository)))
        }
        "oci-layout" => {
            let (store, digest) = text.split_once('@').ok_or_else(|| bad("the digest is missing".to_owned()))?;
            let digest: Digest = digest.parse().map_err(|error: oci::DigestError| bad(error.to_string()))?;
            let store = store.split(':').next().unwrap_or(store).to_owned();
            let session = options.session_of(&store).to_owned();
            Ok((digest, ImagePlace::Layout { store, session }))
        }
        other => Err(bad(format!("`{other}` is no kind of image"))),
    }
}

/// Makes a stage the result. The image keeps the plan's config: a stage has none of its own.
fn aim(plan: &mut Plan, asked: &str) -> Result<(), Stop> {
    let name = plan.target.name.to_string();
    let short = |stage: &plan::Stage| match stage.name.strip_prefix(&format!("{name} ")) {
        Some(short) => short.to_owned(),
        None => stage.name.clone(),
    };
    let known: Vec<String> = plan.stages.iter().map(short).collect();
    match plan.stage_named(asked).or_else(|| plan.stage_named(&format!("{name} {asked}"))) {
        Some(stage) => {
            plan.result = stage;
            Ok(())
        }
        None => {
            let diagnostic = Diagnostic::new(
                codes::frontend::OPTION,
                format!("there is no stage `{asked}` in the build of `{name}`"),
            );
            Err(Stop::from(match did_you_mean(asked, known.iter().map(String::as_str)) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("stages: {}", known.join(", "))),
            }))
        }
    }
}

/// Steps whose known results do not count, as a definition says it. Sources are known by their content anyway.
fn uncached(definition: Definition, no_cache: &NoCache) -> Definition {
    let is_step = |vertex: &Vertex| !matches!(vertex.op(), Op::Source(_));
    match no_cache {
        NoCache::Nothing => definition,
        NoCache::Everything => definition.ignoring_cache(is_step),
        NoCache::Stages(stages) => definition.ignoring_cache(|vertex| {
            let name = vertex.name();
            let stage = name.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(stage, _)| stage);
            let is_asked =
                |asked: &String| stage == asked || stage.split_once(' ').is_some_and(|(_, own)| own == asked);
            is_step(vertex) && stages.iter().any(is_asked)
        }),
    }
}

/// Says what the daemon lacks before anything runs.
fn check_caps(gateway: &Gateway, definition: &Definition) -> Result<(), Stop> {
    let missing = gateway.missing_caps(definition);
    let Some(first) = missing.first() else { return Ok(()) };
    let names: Vec<&str> = missing.iter().map(|cap| cap.as_str()).collect();
    let message = format!("this BuildKit is too old: it does not know {}", names.join(", "));
    let diagnostic = Diagnostic::new(codes::engine::MISSING_CAPABILITY, message).help(
        "use BuildKit 0.19 (Docker 28) or newer, or let clawbuild drive this one: `clawbuild TARGET --engine docker`",
    );
    let user = definition.user_of(*first).map(Vertex::digest);
    let place = user.as_ref().and_then(|user| definition.source_map().locations(user).first());
    Err(Stop::from(match place {
        Some(place) => diagnostic.label(&place.source, place.span, "needed here"),
        None => diagnostic,
    }))
}

/// The image's config. Of the image itself the exporter fills in the layers.
fn image_config(plan: &Plan, rootfs: RootFs, history: Vec<History>) -> Vec<u8> {
    let config = ImageConfig {
        created: Some(plan.image.epoch.to_rfc3339()),
        author: None,
        architecture: plan.platform.architecture,
        os: plan.platform.os,
        config: plan.image.config.clone(),
        rootfs,
        history,
    };
    config.to_bytes()
}

/// Tells of options that change nothing.
async fn warn(gateway: &Gateway, options: &Options, vertex: Digest) -> Result<(), Stop> {
    for option in &options.ignored {
        let message = format!("the option `{option}` has no effect on recipes");
        let detail = vec!["what an image is made of stands in the recipe and in clawbuild.lock".to_owned()];
        gateway.warn(Warning { message, detail, vertex }).await.map_err(Stop::gateway)?;
    }
    Ok(())
}

/// Spec: BuildKit `frontend/subrequests`.
fn subrequest(name: String) -> Result<FrontendResult, Stop> {
    const DESCRIBE: &str = "frontend.subrequests.describe";
    if name != DESCRIBE {
        return Err(Stop::Subrequest(name));
    }
    let (description, version) = ("List available subrequest types", "1.0.0");
    let all = serde_json::json!([{
        "name": DESCRIBE,
        "version": version,
        "type": "rpc",
        "description": description,
        "metadata": [{ "name": "result.json" }, { "name": "result.txt" }],
    }]);
    let table = format!("NAME                 VERSION DESCRIPTION\nsubrequests.describe {version}   {description}\n");
    Ok(FrontendResult::Answer(vec![
        ("result.json", format!("{all:#}")),
        ("result.txt", table),
        ("version", version.to_owned()),
    ]))
}
