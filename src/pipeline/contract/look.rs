//! What is looked at in a container, and what that says about a point.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::ContainerConfig;
use recipe::{HealthProbe, Recipe};

use super::container::{Container, Ids};
use super::finding::Finding;
use super::{process, settings};
use crate::cli::Failure;

/// How long a port may take to answer, and to open when health answers already.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// How many changed paths are named.
const NAMED: usize = 5;

/// Asks every port at an address that is not loopback's.
pub(super) async fn reachable(recipe: &Recipe, container: &dyn Container) -> Finding {
    let health = match &recipe.health.probe {
        HealthProbe::Http { port, path, .. } => Some((*port, path.as_str())),
        HealthProbe::Exec(_) | HealthProbe::None => None,
    };
    let mut ports: Vec<u16> = recipe.image.ports.iter().map(|port| port.value).collect();
    ports.extend(health.map(|(port, _)| port).filter(|port| !ports.contains(port)));
    if ports.is_empty() {
        return Finding::NotApplicable("it listens on no port".to_owned());
    }
    let mut seen = Vec::new();
    for port in ports {
        let path = health.filter(|(asked, _)| *asked == port).map(|(_, path)| path);
        match answer(container, port, path.unwrap_or("/")).await {
            Ok(answer) => match status(&answer) {
                Some(status) => seen.push(format!("port {port} answers {status}")),
                None if path.is_none() => seen.push(format!("port {port} is open")),
                None => return Finding::Broken(format!("what port {port} answers from outside is not HTTP")),
            },
            Err(error) => return Finding::Broken(format!("port {port} cannot be reached from outside: {error}")),
        }
    }
    Finding::Holds(seen.join(", "))
}

async fn answer(container: &dyn Container, port: u16, path: &str) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: contract\r\nConnection: close\r\n\r\n");
    let limit = Instant::now() + PATIENCE;
    loop {
        match container.ask(port, request.clone().into_bytes(), PATIENCE).await {
            // Connected, but what listens has nothing to say to HTTP.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) => {
                return Ok(Vec::new());
            }
            Err(_) if Instant::now() < limit => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}

/// The status of an HTTP answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

/// Whether every process is this user's.
pub(super) fn user(container: &dyn Container, ids: Ids) -> Finding {
    let processes = container.process().map(process::beside).unwrap_or_default();
    if processes.is_empty() {
        return Finding::Broken("its processes cannot be looked at from here".to_owned());
    }
    match processes.iter().find(|process| !process.is(ids)) {
        Some(other) => Finding::Broken(format!(
            "`{}` runs as {}:{}, not as {}:{}",
            other.name(),
            other.uids.first().copied().unwrap_or_default(),
            other.gids.first().copied().unwrap_or_default(),
            ids.uid,
            ids.gid
        )),
        None => {
            let number = processes.len();
            let processes = if number == 1 { "the one process is" } else { &format!("all {number} processes are") };
            Finding::Holds(format!("{processes} {}:{}", ids.uid, ids.gid))
        }
    }
}

/// What does not hold about secrets while the container runs.
pub(super) async fn secrets_inside(
    recipe: &Recipe,
    container: &dyn Container,
    secrets: &BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    let processes = container.process().map(process::beside).unwrap_or_default();
    let Some(config) = &recipe.config else { return Ok(wrong) };
    let keyed: Vec<settings::Setting> =
        settings::of_every_key(config).into_iter().filter(|setting| setting.secret).collect();
    if !keyed.is_empty() {
        let file = container.read(config.path.value.as_str()).await?.unwrap_or_default();
        wrong.extend(settings::missing(config.format.value, &file, &keyed));
    }
    for (name, value) in secrets {
        let has_key = keyed.iter().any(|setting| setting.variable == *name);
        let assignment = format!("{name}={value}");
        let is_set = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|one| one == assignment.as_bytes());
        if !has_key && !processes.iter().any(|process| is_set(&process.environment)) {
            wrong.push(format!("{name} from /run/secrets does not reach the runtime"));
        }
        if let Some(shows) = processes.iter().find(|process| process.command.contains(value)) {
            wrong.push(format!("{name} is among the arguments of `{}`", shows.name()));
        }
    }
    let description = container.description().await?;
    wrong.extend(
        secrets
            .iter()
            .filter(|(_, value)| description.contains(*value))
            .map(|(name, _)| format!("{name} is shown by whoever runs the container")),
    );
    Ok(wrong)
}

/// What does not hold about secrets when the container has ended: its log, and the image itself.
pub(super) async fn secrets_left(
    image: &ContainerConfig,
    container: &dyn Container,
    secrets: &BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    let log = container.log().await?;
    let log = String::from_utf8_lossy(&log);
    let mut wrong = Vec::new();
    for (name, value) in secrets {
        if log.contains(value) {
            wrong.push(format!("{name} is in the log"));
        }
        let assigned = |variable: &&String| {
            variable.strip_prefix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.starts_with('='))
        };
        if image.env.iter().any(|variable| assigned(&variable)) {
            wrong.push(format!("{name} has a value in the image's config"));
        }
    }
    Ok(wrong)
}

/// What all that says.
pub(super) fn secrets(secrets: &BTreeMap<String, String>, inside: Vec<String>, left: Vec<String>) -> Finding {
    let wrong: Vec<String> = inside.into_iter().chain(left).collect();
    match secrets.len() {
        0 => Finding::NotApplicable("the recipe declares no secret".to_owned()),
        number if wrong.is_empty() => {
            let each = if number == 1 { "the one secret arrives" } else { &format!("all {number} arrive") };
            Finding::Holds(format!("{each}, and in no log, argument, description or image config"))
        }
        _ => Finding::Broken(wrong.join("; ")),
    }
}

/// What was changed outside of where things may change.
pub(super) fn changes(recipe: &Recipe, changed: &[PathBuf]) -> Finding {
    let image = &recipe.image;
    let places = || image.volumes.iter().chain(&image.tmpfs).map(|path| Path::new(path.value.as_str()));
    // A place is itself made where the image does not have it.
    let is_allowed = |path: &Path| places().any(|place| path.starts_with(place) || place.starts_with(path));
    let stray: Vec<String> =
        changed.iter().filter(|path| !is_allowed(path)).map(|path| format!("`{}`", path.display())).collect();
    if stray.is_empty() {
        return Finding::Holds("nothing is written outside of volumes and temporary directories".to_owned());
    }
    let named = stray.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match stray.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Finding::Broken(format!("writes outside of its volumes: {named}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_answers() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\n"), Some(503));
        assert_eq!(status(b"SSH-2.0-x\r\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn secrets_are_judged_by_all_that_was_seen() {
        let one = BTreeMap::from([("TOKEN".to_owned(), "canary".to_owned())]);
        assert!(matches!(secrets(&one, Vec::new(), Vec::new()), Finding::Holds(_)));
        let wrong = secrets(&one, vec!["a".to_owned()], vec!["b".to_owned()]);
        assert_eq!(wrong, Finding::Broken("a; b".to_owned()));
        assert!(matches!(secrets(&BTreeMap::new(), Vec::new(), Vec::new()), Finding::NotApplicable(_)));
    }
}
