//! What the daemon tells a frontend at its start. Spec: BuildKit `frontend/gateway/gateway.go`, `grpcclient/client.go`.

use std::collections::BTreeMap;

use oci::Platform;
use serde::Deserialize;

const OPTION_PREFIX: &str = "BUILDKIT_FRONTEND_OPT_";
const SESSION: &str = "BUILDKIT_SESSION_ID";
const WORKERS: &str = "BUILDKIT_WORKERS";

/// The variables of a frontend's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The build's options, by name.
    pub options: BTreeMap<String, String>,
    /// The session of the client that asked for the build.
    pub session: String,
    /// What the daemon's default worker runs, its own platform first; those clawbuild knows.
    pub platforms: Vec<Platform>,
}

/// A worker as the daemon describes it; what matters here.
#[derive(Deserialize)]
struct Worker {
    // BuildKit before 0.9 wrote field names as Go has them.
    #[serde(default, alias = "Platforms")]
    platforms: Vec<WorkerPlatform>,
}

#[derive(Deserialize)]
struct WorkerPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Environment {
    /// What the variables say; `None` where no daemon has set them.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Option<Self> {
        let (mut options, mut session, mut workers) = (BTreeMap::new(), None, None);
        for (name, value) in variables {
            if name.starts_with(OPTION_PREFIX) {
                let (option, value) = value.split_once('=').unwrap_or((&value, ""));
                options.insert(option.to_owned(), value.to_owned());
            } else if name == SESSION {
                session = Some(value);
            } else if name == WORKERS {
                workers = Some(value);
            }
        }
        let workers: Vec<Worker> = workers.and_then(|workers| serde_json::from_str(&workers).ok()).unwrap_or_default();
        let platforms = workers.into_iter().next().map(|worker| worker.platforms).unwrap_or_default();
        let known = |place: WorkerPlatform| platform(&place.os, &place.architecture, &place.variant);
        Some(Self { options, session: session?, platforms: platforms.into_iter().filter_map(known).collect() })
    }
}

/// A platform in the daemon's words, if clawbuild knows it.
pub(super) fn platform(os: &str, architecture: &str, variant: &str) -> Option<Platform> {
    let variant = if variant.is_empty() { String::new() } else { format!("/{variant}") };
    format!("{os}/{architecture}{variant}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_session_and_workers_are_read() {
        let variables = [
            ("PATH", "/usr/bin"),
            ("BUILDKIT_FRONTEND_OPT_0", "build-arg:A=b=c"),
            ("BUILDKIT_FRONTEND_OPT_1", "no-cache="),
            ("BUILDKIT_SESSION_ID", "session"),
            (
                "BUILDKIT_WORKERS",
                r#"[{"id":"w","labels":{},"platforms":[{"architecture":"arm64","os":"linux","variant":"v8"},
                {"architecture":"mips","os":"linux"},{"architecture":"amd64","os":"linux"}],"gcPolicy":null}]"#,
            ),
        ];
        let environment = Environment::from_variables(variables.map(|(name, value)| (name.into(), value.into())));
        let environment = environment.expect("the session is there");
        assert_eq!(environment.options["build-arg:A"], "b=c");
        assert_eq!(environment.options["no-cache"], "");
        assert_eq!(environment.session, "session");
        assert_eq!(environment.platforms, [Platform::LINUX_ARM64, Platform::LINUX_AMD64]);
    }

    #[test]
    fn without_a_session_nobody_runs_a_frontend() {
        assert_eq!(Environment::from_variables([("BUILDKIT_WORKERS".to_owned(), "[]".to_owned())]), None);
    }
}
