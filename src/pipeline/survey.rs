//! Every engine outside this process, looked at: whether it answers, and what it is.

use std::sync::Arc;
use std::time::Duration;

use buildkit::builders::{Driver, Environment, Reach};
use diag::{Diagnostic, Reported as _, codes};
use engine::{Engine, Unavailable};
use llb::Cap;
use oci::Platform;

use super::Run;
use super::engines::{Client, EngineSettings, Member, Wish, resolve, usual_socket};

/// How long an engine may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(15);

/// An engine outside this process.
#[derive(Debug)]
pub struct Surveyed {
    /// Whose engine it is, such as `docker` or `builder ci`.
    pub name: String,
    /// Whether the user asked for it.
    pub is_asked_for: bool,
    /// Where it is; none where nobody says.
    pub address: Option<String>,
    /// What it says of itself, or why it says nothing.
    pub answer: Result<Answer, Diagnostic>,
}

/// What an engine says of itself.
#[derive(Debug)]
pub struct Answer {
    /// What it is, such as `BuildKit v0.33.1`.
    pub version: String,
    /// What it runs natively, the first by choice.
    pub platforms: Vec<Platform>,
    /// What clawbuild may have a use for and the engine cannot do.
    pub lacks: Vec<Cap>,
}

/// Asks Docker, the builders that were named, and else those that would be found.
pub async fn survey(run: &Run) -> Vec<Surveyed> {
    let (client, settings) = (&run.client(), &run.settings().engine);
    let environment = Environment::of_process();
    let builders = builders(&environment, settings);
    // Without any builder, it is Docker's own BuildKit that is taken for one.
    let is_asked_for = settings.wish == Wish::Docker || settings.wish == Wish::BuildKit && builders.is_empty();
    let candidates = std::iter::once(docker(&environment, is_asked_for)).chain(builders);
    let asking = candidates.map(|candidate| async move {
        let address = candidate.reach.as_ref().ok().map(address_of);
        let answer = match candidate.reach {
            Ok(reach) => ask(client, reach).await,
            Err(diagnostic) => Err(diagnostic),
        };
        Surveyed { name: candidate.name, is_asked_for: candidate.is_asked_for, address, answer }
    });
    futures::future::join_all(asking).await
}

struct Candidate {
    name: String,
    is_asked_for: bool,
    reach: Result<Reach, Diagnostic>,
}

fn docker(environment: &Environment, is_asked_for: bool) -> Candidate {
    let reach = environment.docker().map(|context| Reach::Docker(context.endpoint));
    Candidate { name: "docker".to_owned(), is_asked_for, reach: reach.map_err(|error| error.diagnostic()) }
}

fn builders(environment: &Environment, settings: &EngineSettings) -> Vec<Candidate> {
    let of = |is_asked_for| {
        move |member: Member| {
            let name = format!("builder {}", member.name);
            Candidate { name, is_asked_for, reach: Ok(member.reach) }
        }
    };
    let failed = |name: String, is_asked_for, diagnostic| Candidate { name, is_asked_for, reach: Err(diagnostic) };
    let mut found = Vec::new();
    for builder in &settings.builders {
        match resolve(builder, environment) {
            Ok(members) => found.extend(members.into_iter().map(of(true))),
            Err(error) => found.push(failed(format!("builder {}", builder.place), true, error.diagnostic())),
        }
    }
    if !settings.builders.is_empty() {
        return found;
    }
    let is_asked_for = settings.wish == Wish::BuildKit;
    found.extend(usual_socket().map(of(is_asked_for)));
    match environment.current_builder() {
        // That one is Docker's own.
        Ok(current) if current.driver == Driver::Docker => {}
        Ok(current) => found.extend(current.nodes.into_iter().map(Member::of_node).map(of(is_asked_for))),
        Err(error) => found.push(failed("buildx".to_owned(), is_asked_for, error.diagnostic())),
    }
    found
}

fn address_of(reach: &Reach) -> String {
    match reach {
        Reach::Docker(endpoint) => endpoint.to_string(),
        Reach::BuildKit(dial) => dial.describe(),
    }
}

async fn ask(client: &Client, reach: Reach) -> Result<Answer, Diagnostic> {
    let address = reach.describe();
    let asking = async {
        match reach {
            Reach::Docker(endpoint) => {
                let docker = client.docker(endpoint);
                let version = docker.version().await?;
                answer(Arc::new(docker), version).await
            }
            Reach::BuildKit(dial) => {
                let buildkit = client.buildkit(dial);
                let version = buildkit.version().await?;
                answer(Arc::new(buildkit), version).await
            }
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|unavailable| unavailable.diagnostic()),
        Err(_) => {
            let message = format!("what is at {address} has not answered for {} seconds", PATIENCE.as_secs());
            Err(Diagnostic::new(codes::engine::UNREACHABLE, message))
        }
    }
}

async fn answer(engine: Arc<dyn Engine>, version: String) -> Result<Answer, Unavailable> {
    let capabilities = engine.capabilities().await?;
    let lacks = Cap::ALL.iter().copied().filter(|cap| !capabilities.contains(cap)).collect();
    Ok(Answer { version, platforms: engine.platforms().await?, lacks })
}
