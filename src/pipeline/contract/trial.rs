//! The containers an image is tried in, and what is looked at in each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oci::ContainerConfig;
use recipe::{ContractPoint as Point, HealthProbe, Recipe};
use tokio_util::sync::CancellationToken;

use super::container::{Boot, Container, Ids, Runner};
use super::finding::{Finding, Findings};
use super::settings::Setting;
use super::{look, settings};
use crate::cli::Failure;
use crate::pipeline::interrupted;

/// A user no image declares, in group 0, as OpenShift runs containers. It lies within every range of subordinate ids.
const STRANGER: Ids = Ids { uid: 57_113, gid: 0 };
/// How long a container without a health check has to stay up.
const SETTLING: Duration = Duration::from_secs(3);
/// How often health is asked.
const PAUSE: Duration = Duration::from_millis(100);
/// What is allowed beyond the time to stop: claw-init kills what remains just then.
const GRACE: Duration = Duration::from_secs(2);
/// Lines of a log that are shown.
const SHOWN: usize = 30;

/// An image under trial.
pub(super) struct Trial<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) image: &'a ContainerConfig,
    pub(super) runner: &'a dyn Runner,
    /// What start periods are multiplied by.
    pub(super) slowness: u32,
    pub(super) cancel: &'a CancellationToken,
    /// Values of secrets that it works with; all that are declared, at first.
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) findings: Findings,
    /// The end of the log of the container in which something did not hold first.
    pub(super) log: Vec<String>,
}

/// A container that came up, and how long that took.
struct Up {
    container: Box<dyn Container>,
    after: Duration,
}

impl Trial<'_> {
    /// Tries everything. Gives the point that kept others from being looked at, if one did.
    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        self.overrides().await?;
        let began = Instant::now();
        let Some(main) = self.first().await? else {
            return Ok(());
        };
        self.health(&main);
        self.inside(&main).await?;
        self.stop(main, began).await?;
        self.as_root().await?;
        self.as_stranger().await?;
        self.confined().await
    }

    fn boot(&self) -> Boot {
        let user = &self.recipe.image.user;
        Boot {
            args: None,
            user: Ids { uid: user.uid, gid: user.gid },
            env: settings::values(&self.examples()),
            secrets: self.secrets.clone(),
            read_only_root: true,
            shared_volumes: false,
            keep_temporary: false,
        }
    }

    /// How long it may take to start, the way it runs here.
    fn start_period(&self) -> Duration {
        self.recipe.health.start_period * self.slowness
    }

    fn examples(&self) -> Vec<Setting> {
        self.recipe.config.as_ref().map(settings::of_examples).unwrap_or_default()
    }

    /// Every override, each with a value of its type: the configuration is rendered, but the runtime is not started,
    /// which may not work with such values.
    async fn overrides(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let Some(config) = self.recipe.config.as_ref().filter(|_| !self.image.entrypoint.is_empty()) else {
            let finding = Finding::NotApplicable("the recipe has no configuration".to_owned());
            self.findings.note(Point::Overrides, finding, began.elapsed());
            return Ok(());
        };
        let all = settings::of_every_key(config);
        if all.is_empty() {
            let finding = Finding::NotApplicable("no override has a key".to_owned());
            self.findings.note(Point::Overrides, finding, began.elapsed());
            return Ok(());
        }
        let boot = Boot {
            args: Some(vec!["render".to_owned()]),
            env: settings::values(&all),
            keep_temporary: true,
            ..self.boot()
        };
        let container = self.runner.start(&boot).await?;
        let status = container.ended(Duration::from_secs(30)).await?;
        let path = config.path.value.as_str();
        let finding = match (status, container.read(path).await?) {
            (Some(0), Some(file)) => match settings::missing(config.format.value, &file, &all) {
                wrong if wrong.is_empty() => None,
                wrong => Some(wrong.join("; ")),
            },
            (Some(0), None) => Some(format!("nothing was rendered at {path}")),
            (Some(status), _) => Some(format!("rendering ended with status {status}")),
            (None, _) => Some("rendering does not end".to_owned()),
        };
        match finding {
            Some(why) => self.broken(Point::Overrides, why, began.elapsed(), &*container).await?,
            // More is seen when the runtime runs.
            None => self.findings.rendered(all.len(), began.elapsed()),
        }
        Ok(())
    }

    /// The first container that comes up: as the image is meant to be run, or else with one thing made easier, which
    /// then is what does not hold.
    async fn first(&mut self) -> Result<Option<Up>, Failure> {
        let meant = self.boot();
        let (why, log) = match self.up(&meant).await? {
            Ok(up) => {
                self.findings.note(Point::ReadOnlyRoot, Finding::Holds("comes up with it".to_owned()), up.after);
                return Ok(Some(up));
            }
            Err(failed) => failed,
        };
        self.log = log;
        let writable = Boot { read_only_root: false, ..meant.clone() };
        if let Ok(up) = self.up(&writable).await? {
            self.findings.note(Point::ReadOnlyRoot, Finding::Broken(why), up.after);
            return Ok(Some(up));
        }
        // Without one of the secrets, then without any: a runtime may need some of them.
        let each = meant.secrets.keys().map(|name| (name.as_str(), settings::without(&meant.secrets, name)));
        let all = (meant.secrets.len() > 1).then(|| ("secrets", BTreeMap::new()));
        for (given, secrets) in each.chain(all) {
            if let Ok(up) = self.up(&Boot { secrets: secrets.clone(), ..meant.clone() }).await? {
                self.findings.note(Point::Secrets, Finding::Broken(format!("given {given}, {why}")), up.after);
                self.findings.note(Point::ReadOnlyRoot, Finding::Holds("comes up with it".to_owned()), up.after);
                self.secrets = secrets;
                return Ok(Some(up));
            }
        }
        self.findings.note(Point::Health, Finding::Broken(why), self.start_period());
        Ok(None)
    }

    /// Starts a container and waits for its health. Gives why it did not come up and the end of its log otherwise.
    async fn up(&self, boot: &Boot) -> Result<Result<Up, (String, Vec<String>)>, Failure> {
        let began = Instant::now();
        let container = self.runner.start(boot).await?;
        let limit = match self.recipe.health.probe {
            HealthProbe::None => SETTLING,
            HealthProbe::Http { .. } | HealthProbe::Exec(_) => self.start_period().max(SETTLING),
        };
        loop {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            let healthy = self.is_healthy(&*container).await;
            let after = began.elapsed();
            if let Some(status) = container.ended(PAUSE).await? {
                let why = format!("it ended with status {status} after {}", seconds(after));
                return Ok(Err((why, tail(&container.log().await?, &boot.secrets))));
            }
            match healthy {
                Some(true) => return Ok(Ok(Up { container, after })),
                None if after >= limit => return Ok(Ok(Up { container, after })),
                Some(false) if after >= limit => {
                    let why = format!("it was not healthy within {}", seconds(limit));
                    return Ok(Err((why, tail(&container.log().await?, &boot.secrets))));
                }
                Some(false) | None => {}
            }
        }
    }

    /// What the image's health check says; nothing where there is none.
    async fn is_healthy(&self, container: &dyn Container) -> Option<bool> {
        let check = self.image.healthcheck.as_ref()?;
        let test = check.test.strip_prefix(&["CMD".to_owned()])?;
        Some(container.exec(test).await == Ok(0))
    }

    fn health(&mut self, up: &Up) {
        let finding = match self.recipe.health.probe {
            HealthProbe::None => Finding::Broken("the recipe declares no health check".to_owned()),
            HealthProbe::Http { .. } | HealthProbe::Exec(_) => {
                Finding::Holds(format!("healthy after {} of {}", seconds(up.after), seconds(self.start_period())))
            }
        };
        self.findings.note(Point::Health, finding, up.after);
    }

    /// What is looked at while it runs.
    async fn inside(&mut self, up: &Up) -> Result<(), Failure> {
        let container = &*up.container;
        let began = Instant::now();
        let finding = look::reachable(self.recipe, container).await;
        self.keep(Point::Reachable, finding, began, container).await?;

        let began = Instant::now();
        let finding = look::user(container, self.boot().user);
        self.keep(Point::User, finding, began, container).await?;

        let examples = self.examples();
        if let Some(config) = self.recipe.config.as_ref().filter(|_| !examples.is_empty()) {
            let began = Instant::now();
            let file = container.read(config.path.value.as_str()).await?.unwrap_or_default();
            let wrong = settings::missing(config.format.value, &file, &examples);
            if !wrong.is_empty() {
                let why = format!("in the running container, {}", wrong.join("; "));
                self.broken(Point::Overrides, why, began.elapsed(), container).await?;
            }
        }
        Ok(())
    }

    /// Stops it, and looks at what it leaves.
    async fn stop(&mut self, up: Up, began: Instant) -> Result<(), Failure> {
        let container = &*up.container;
        let secrets = self.secrets.clone();
        let given = look::secrets_inside(self.recipe, container, &secrets).await?;
        let asked = Instant::now();
        let limit = self.recipe.image.stop_timeout;
        let ended = self.stopped(container).await?;
        let took = asked.elapsed();
        let finding = match ended {
            None => Finding::Broken(format!("still runs {} after {}", seconds(took), self.signal())),
            // claw-init kills at the limit what has not ended by itself.
            Some(137) => Finding::Broken(format!("had to be killed {} after {}", seconds(took), self.signal())),
            Some(status) if took > limit + GRACE => {
                Finding::Broken(format!("ended with status {status}, but only after {}", seconds(took)))
            }
            Some(status) => {
                let limit = seconds(limit);
                Finding::Holds(format!(
                    "ends {} after {}, of {limit}, with status {status}",
                    seconds(took),
                    self.signal()
                ))
            }
        };
        self.keep(Point::Stop, finding, asked, container).await?;
        let left = look::secrets_left(self.image, container, &secrets).await?;
        let finding = look::secrets(&secrets, given, left);
        self.keep(Point::Secrets, finding, began, container).await
    }

    fn signal(&self) -> &str {
        if self.image.stop_signal.is_empty() { "SIGTERM" } else { &self.image.stop_signal }
    }

    async fn stopped(&self, container: &dyn Container) -> Result<Option<i32>, Failure> {
        container.stop().await?;
        let limit = Instant::now() + self.recipe.image.stop_timeout + GRACE;
        loop {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            let left = limit.saturating_duration_since(Instant::now());
            match container.ended(left.min(PAUSE)).await? {
                None if !left.is_zero() => {}
                ended => return Ok(ended),
            }
        }
    }

    /// As root, which is to give way to the declared user.
    async fn as_root(&mut self) -> Result<(), Failure> {
        if !self.runner.lets_root_change() || self.findings.is_broken(Point::User) {
            return Ok(());
        }
        let began = Instant::now();
        let declared = self.boot();
        let read_only_root = !self.findings.is_broken(Point::ReadOnlyRoot);
        let boot = Boot { user: Ids { uid: 0, gid: 0 }, read_only_root, ..declared.clone() };
        let (why, log) = match self.up(&boot).await? {
            Ok(up) => match look::user(&*up.container, declared.user) {
                Finding::Broken(why) => (why, tail(&up.container.log().await?, &self.secrets)),
                Finding::Holds(_) | Finding::NotApplicable(_) | Finding::Unseen(_) => {
                    self.findings.also(Point::User, "so they are when it is started as root");
                    return Ok(());
                }
            },
            Err(failed) => failed,
        };
        self.log_if_first(log);
        self.findings.overrule(Point::User, Finding::Broken(format!("started as root, {why}")), began.elapsed());
        Ok(())
    }

    /// As a user nobody declared.
    async fn as_stranger(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let boot = Boot {
            user: STRANGER,
            shared_volumes: true,
            read_only_root: !self.findings.is_broken(Point::ReadOnlyRoot),
            ..self.boot()
        };
        match self.up(&boot).await? {
            Ok(up) => {
                let finding = match look::user(&*up.container, STRANGER) {
                    Finding::Holds(_) => Finding::Holds(format!(
                        "comes up as {}:{} after {}",
                        STRANGER.uid,
                        STRANGER.gid,
                        seconds(up.after)
                    )),
                    other => other,
                };
                self.keep(Point::RandomUid, finding, began, &*up.container).await
            }
            Err((why, log)) => {
                self.log_if_first(log);
                let why = format!("as {}:{}, {why}", STRANGER.uid, STRANGER.gid);
                self.findings.note(Point::RandomUid, Finding::Broken(why), began.elapsed());
                Ok(())
            }
        }
    }

    /// With a root that could be written to, and another port where an override changes it.
    async fn confined(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let plain = Boot { read_only_root: false, ..self.boot() };
        let mut up = None;
        if let Some((variable, port)) = self.movable_port() {
            let mut boot = plain.clone();
            boot.env.insert(variable.clone(), port.to_string());
            match self.up(&boot).await? {
                Ok(there) => {
                    self.findings.also(Point::Overrides, &format!("the runtime follows {variable}"));
                    up = Some(there);
                }
                Err((why, log)) => {
                    self.log_if_first(log);
                    let why = format!("with {variable}={port}, {why}");
                    self.findings.overrule(Point::Overrides, Finding::Broken(why), began.elapsed());
                }
            }
        }
        let up = match up {
            Some(up) => Ok(up),
            None => self.up(&plain).await?,
        };
        match up {
            Ok(up) => {
                let _ = self.stopped(&*up.container).await?;
                let log = tail(&up.container.log().await?, &self.secrets);
                let changed = up.container.changes().await?;
                let finding = look::changes(self.recipe, &changed);
                if matches!(finding, Finding::Broken(_)) {
                    self.log_if_first(log);
                }
                self.findings.note(Point::Confined, finding, began.elapsed());
            }
            Err((why, log)) => {
                self.log_if_first(log);
                let why = format!("with a writable root, {why}");
                self.findings.note(Point::Confined, Finding::Broken(why), began.elapsed());
            }
        }
        Ok(())
    }

    /// The override that changes the port health is asked at, and another port.
    fn movable_port(&self) -> Option<(String, u16)> {
        let HealthProbe::Http { port, port_env: Some(variable), .. } = &self.recipe.health.probe else { return None };
        let declared = self.recipe.config.as_ref()?.overrides.get(variable)?;
        (!declared.key.is_empty()).then(|| (variable.clone(), port.checked_add(7).unwrap_or(port - 7)))
    }

    async fn keep(
        &mut self,
        point: Point,
        finding: Finding,
        began: Instant,
        container: &dyn Container,
    ) -> Result<(), Failure> {
        match finding {
            Finding::Broken(why) => self.broken(point, why, began.elapsed(), container).await?,
            finding => self.findings.note(point, finding, began.elapsed()),
        }
        Ok(())
    }

    async fn broken(
        &mut self,
        point: Point,
        why: String,
        took: Duration,
        container: &dyn Container,
    ) -> Result<(), Failure> {
        let log = tail(&container.log().await?, &self.secrets);
        self.log_if_first(log);
        self.findings.overrule(point, Finding::Broken(why), took);
        Ok(())
    }

    fn log_if_first(&mut self, log: Vec<String>) {
        if self.log.is_empty() {
            self.log = log;
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The last lines of a log, secrets taken out.
fn tail(log: &[u8], secrets: &BTreeMap<String, String>) -> Vec<String> {
    let hide = |text: String, (name, value): (&String, &String)| text.replace(value, &format!("<{name}>"));
    let text = secrets.iter().fold(String::from_utf8_lossy(log).into_owned(), hide);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| (*line).to_owned()).collect()
}
