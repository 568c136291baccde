//! Which engine solves: the one the user names, or the first that works here.
//!
//! `--engine` and `--builder` come first, then `BUILDKIT_HOST`, then the embedded engine, then Docker.

use std::num::NonZeroUsize;
use std::sync::Arc;

use buildkit::address::{Address, BuilderArgument, BuilderPlace};
use buildkit::builders::{BuilderError, Environment, Reach};
use buildkit::docker::{DockerEngine, DockerOptions, Endpoint};
use buildkit::transport::{Dial, Unix};
use buildkit::{BuildKit, BuildKitOptions};
use diag::{Diagnostic, Reported as _, codes};
use engine::Engine;
use engine::fleet::{Fleet, Node};
use engine::userns::{self, Ids, Unusable};
use registry::image::{Images, Keychain};
use store::Store;

use crate::cli::Failure;

/// Where buildkitd listens unless told otherwise.
const BUILDKITD_SOCKET: &str = "/run/buildkit/buildkitd.sock";

/// Which engine the user wishes for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Whatever works.
    #[default]
    Any,
    /// The one in this process.
    Embedded,
    /// The BuildKit inside Docker.
    Docker,
    /// A BuildKit.
    BuildKit,
}

impl Wish {
    /// The wish of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Any),
            "embedded" => Some(Self::Embedded),
            "docker" => Some(Self::Docker),
            "buildkit" => Some(Self::BuildKit),
            _ => None,
        }
    }
}

/// What the user says of engines.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings {
    /// `--engine`.
    pub wish: Wish,
    /// `--builder`, or else `BUILDKIT_HOST`; none where the wish is for an engine that has no builders.
    pub builders: Vec<BuilderArgument>,
}

/// Where steps run, as far as it has to be decided before there are threads.
#[derive(Debug)]
pub enum Seat {
    /// In this process, which lives in its namespaces now.
    Here,
    /// In a daemon. Where nobody asked for that, why not here.
    Elsewhere {
        /// Why the embedded engine does not work, if it was tried.
        why: Option<Unusable>,
    },
    /// Nowhere: only this process was asked for, and it cannot.
    Nowhere {
        /// Why the embedded engine does not work.
        why: Unusable,
    },
}

impl Seat {
    /// Enters the namespaces if steps are to run in this process. Call it while there is one thread.
    ///
    /// # Errors
    /// [`Unusable`] where the process is of no more use.
    pub fn take(settings: &EngineSettings) -> Result<Self, Unusable> {
        match settings.wish {
            Wish::Docker | Wish::BuildKit => return Ok(Self::Elsewhere { why: None }),
            Wish::Any if !settings.builders.is_empty() => return Ok(Self::Elsewhere { why: None }),
            Wish::Any | Wish::Embedded => {}
        }
        match userns::enter(Ids::Widest) {
            Ok(_) => Ok(Self::Here),
            Err(error) if matches!(error, Unusable::Mapping { .. }) => Err(error),
            Err(why) if settings.wish == Wish::Embedded => Ok(Self::Nowhere { why }),
            Err(error) => Ok(Self::Elsewhere { why: Some(error) }),
        }
    }
}

/// What remote engines need of this side.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) keychain: Keychain,
}

impl Client {
    fn engine(&self, reach: Reach) -> Arc<dyn Engine> {
        match reach {
            Reach::BuildKit(dial) => Arc::new(self.buildkit(dial)),
            Reach::Docker(endpoint) => Arc::new(self.docker(endpoint)),
        }
    }

    pub(crate) fn buildkit(&self, dial: Arc<dyn Dial>) -> BuildKit {
        let options = BuildKitOptions { threads: threads(), keychain: self.keychain.clone() };
        BuildKit::new(dial, self.store.clone(), options)
    }

    pub(crate) fn docker(&self, endpoint: Endpoint) -> DockerEngine {
        let (images, keychain) = (self.images.clone(), self.keychain.clone());
        DockerEngine::new(endpoint, self.store.clone(), DockerOptions { threads: threads(), images, keychain })
    }

    /// The engine outside this process that is asked for, or found. It answers, or this fails.
    pub(crate) async fn connect(
        &self,
        settings: &EngineSettings,
        why_not_here: Option<&Unusable>,
    ) -> Result<Arc<dyn Engine>, Failure> {
        let environment = Environment::of_process();
        let engine = match (settings.wish, &settings.builders[..]) {
            (Wish::Docker, _) => self.engine(Reach::Docker(environment.docker()?.endpoint)),
            (Wish::BuildKit, []) => self.fleet(default_builder(&environment)?)?,
            (_, []) => self.docker_instead(&environment, why_not_here).await?,
            (_, builders) => {
                let mut nodes = Vec::new();
                for builder in builders {
                    nodes.extend(resolve(builder, &environment)?);
                }
                self.fleet(nodes)?
            }
        };
        engine.check_usable().await?;
        Ok(engine)
    }

    fn fleet(&self, mut builders: Vec<Member>) -> Result<Arc<dyn Engine>, Failure> {
        if let [one] = &builders[..]
            && one.platforms.is_empty()
        {
            return Ok(self.engine(builders.remove(0).reach));
        }
        let nodes =
            builders.into_iter().map(|member| Node::new(member.name, self.engine(member.reach), member.platforms));
        Ok(Arc::new(Fleet::new(nodes.collect())))
    }

    /// Nobody asked for Docker, but the embedded engine does not work: Docker if it answers, or every reason at once.
    async fn docker_instead(
        &self,
        environment: &Environment,
        why_not_here: Option<&Unusable>,
    ) -> Result<Arc<dyn Engine>, Failure> {
        let unavailable = match environment.docker() {
            Ok(context) => {
                let docker = self.engine(Reach::Docker(context.endpoint));
                match docker.check_usable().await {
                    Ok(()) => return Ok(docker),
                    Err(unavailable) => unavailable.to_string(),
                }
            }
            Err(error) => error.diagnostic().message,
        };
        let mut diagnostic = Diagnostic::new(codes::engine::UNAVAILABLE, "no engine works here");
        if let Some(error) = why_not_here {
            let Diagnostic { message, help, .. } = error.diagnostic();
            diagnostic = diagnostic.cause(format!("embedded: {message}"));
            diagnostic = help.into_iter().fold(diagnostic, Diagnostic::help);
        }
        Err(diagnostic.cause(unavailable).help("`clawbuild doctor` looks at every engine").into())
    }
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A builder of those asked for.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) reach: Reach,
    platforms: Vec<oci::Platform>,
}

impl Member {
    pub(crate) fn of_node(node: buildkit::builders::Node) -> Self {
        Self { name: node.name, reach: node.reach, platforms: node.platforms }
    }
}

/// An address is one builder, a name may be several.
pub(crate) fn resolve(builder: &BuilderArgument, environment: &Environment) -> Result<Vec<Member>, BuilderError> {
    match &builder.place {
        BuilderPlace::Address(address) => {
            let reach = Reach::BuildKit(address.dial(environment)?);
            Ok(vec![Member { name: address.to_string(), reach, platforms: builder.platforms.clone() }])
        }
        BuilderPlace::Name(name) => {
            let mut nodes: Vec<Member> = environment.builder(name)?.nodes.into_iter().map(Member::of_node).collect();
            if !builder.platforms.is_empty() {
                nodes.iter_mut().for_each(|node| node.platforms.clone_from(&builder.platforms));
            }
            Ok(nodes)
        }
    }
}

/// The builder of those who name none: buildx's current one if it is not just Docker, or buildkitd's usual socket.
fn default_builder(environment: &Environment) -> Result<Vec<Member>, BuilderError> {
    match usual_socket() {
        Some(member) => Ok(vec![member]),
        None => Ok(environment.current_builder()?.nodes.into_iter().map(Member::of_node).collect()),
    }
}

/// The buildkitd of this machine, if there is one.
pub(crate) fn usual_socket() -> Option<Member> {
    let path = std::path::PathBuf::from(BUILDKITD_SOCKET);
    let name = Address::Unix(path.clone()).to_string();
    path.exists().then(|| Member { name, reach: Reach::BuildKit(Arc::new(Unix { path })), platforms: Vec::new() })
}
