//! buildkitd in pods that buildx made, found and reached by kubectl.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use oci::Digest;
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::OnceCell;
use url::Url;

use crate::address::{AddressError, AddressProblem};
use crate::transport::{Dial, DialError, Process, Purpose, Stream};

/// The container in a pod of buildx's. Spec: buildx `driver/kubernetes/manifest`.
const CONTAINER: &str = "buildkitd";

/// The pods of one deployment (or stateful set) of buildx's. Of several, one is taken and kept to, so that its cache
/// is of use; builds of the same directory by the same user take the same one while it runs.
#[derive(Clone)]
pub struct PodsDial {
    app: String,
    namespace: Option<String>,
    kubeconfig: Option<String>,
    is_random: bool,
    chosen: Arc<OnceCell<String>>,
}

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl PodsDial {
    /// The pods of a buildx node. Its endpoint is either `kubernetes:///NAME?deployment=…&kubeconfig=…` or the name of
    /// a context, which says nothing of Kubernetes any more.
    pub(super) fn of_node(
        node: &str,
        endpoint: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, AddressError> {
        let fail = |problem| AddressError { text: endpoint.to_owned(), problem };
        let mut kubeconfig = None;
        if endpoint.starts_with("kubernetes://") {
            let url = Url::parse(endpoint).map_err(|error| fail(AddressProblem::Url(error)))?;
            let found = url.query_pairs().find(|(key, _)| key == "kubeconfig").map(|(_, value)| value.into_owned());
            kubeconfig = found.filter(|path| !path.is_empty());
        } else if endpoint.contains("://") && !endpoint.starts_with("unix://") {
            let scheme = endpoint.split("://").next().unwrap_or_default().to_owned();
            return Err(fail(AddressProblem::Scheme { scheme }));
        }
        let option = |key: &str| options.get(key).filter(|value| !value.is_empty()).cloned();
        let is_random = match option("loadbalance").as_deref() {
            None | Some("sticky") => false,
            Some("random") => true,
            Some(_) => return Err(fail(AddressProblem::Value { attribute: "loadbalance", expected: "known" })),
        };
        // Names of deployments have no underscores.
        let (app, namespace) = (node.replace('_', "-"), option("namespace"));
        Ok(Self { app, namespace, kubeconfig, is_random, chosen: Arc::default() })
    }

    fn kubectl(&self, args: &[&str]) -> Process {
        let mut all = Vec::new();
        for (option, value) in [("kubeconfig", &self.kubeconfig), ("namespace", &self.namespace)] {
            all.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        Process { address: self.describe(), program: "kubectl".to_owned(), args: all, greets: true }
    }

    /// The names of those that run, sorted.
    async fn running(&self) -> Result<Vec<String>, DialError> {
        let process = self.kubectl(&["get", "pods", &format!("--selector=app={}", self.app), "--output=json"]);
        let fail = |last_lines, source| DialError::Command {
            address: self.describe(),
            command: process.command_line(),
            last_lines,
            source,
        };
        let command =
            Command::new(&process.program).args(&process.args).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = command.await.map_err(|error| fail(Vec::new(), Some(error)))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(fail(text.lines().map(str::to_owned).collect(), None));
        }
        let names = names(&output.stdout).map_err(|error| fail(Vec::new(), Some(error.into())))?;
        if names.is_empty() {
            let help = "no pod of it is running; `docker buildx inspect --bootstrap` starts them".to_owned();
            return Err(fail(vec![help], None));
        }
        Ok(names)
    }

    async fn choose(&self) -> Result<String, DialError> {
        let names = self.running().await?;
        let place = std::env::current_dir().unwrap_or_default();
        let seed = if self.is_random { std::process::id().to_string() } else { place.display().to_string() };
        // Rendezvous hashing: when a pod goes, only its own users move.
        let weight = |name: &String| Digest::of(format!("{seed}\0{name}")).hex();
        Ok(names.into_iter().max_by_key(weight).unwrap_or_default())
    }
}

#[async_trait]
impl Dial for PodsDial {
    fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("kubernetes://{namespace}/{}", self.app),
            None => format!("kubernetes:///{}", self.app),
        }
    }

    async fn dial(&self, purpose: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        let pod = self.chosen.get_or_try_init(|| self.choose()).await?;
        let container = format!("--container={CONTAINER}");
        self.kubectl(&["exec", "-i", pod, &container, "--", "buildctl", "dial-stdio"]).dial(purpose).await
    }
}

impl fmt::Debug for PodsDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodsDial")
            .field("app", &self.app)
            .field("namespace", &self.namespace)
            .field("kubeconfig", &self.kubeconfig)
            .field("is_random", &self.is_random)
            .finish_non_exhaustive()
    }
}

fn names(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let List { items } = serde_json::from_slice(json)?;
    // One that is being deleted runs on for a while, but takes its builds with it.
    let usable =
        items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && pod.status.phase == "Running");
    let mut names: Vec<_> = usable.map(|pod| pod.metadata.name).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn only_pods_that_run_and_stay_are_taken() {
        let json = br#"{"apiVersion":"v1","kind":"List","items":[
            {"metadata":{"name":"b-2","labels":{"app":"b"}},"status":{"phase":"Running"}},
            {"metadata":{"name":"b-3","deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"phase":"Running"}},
            {"metadata":{"name":"b-4"},"status":{"phase":"Pending"}},
            {"metadata":{"name":"b-5"}},
            {"metadata":{"name":"b-1"},"status":{"phase":"Running"}}]}"#;
        assert_eq!(names(json).expect("a list"), ["b-1", "b-2"]);
        assert!(names(b"error").is_err());
    }
}
