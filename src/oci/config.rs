//! Image configs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Architecture, DiffId, Document, Os, media_type};

/// An image config. Spec: OCI image-spec config.md, with Docker's `Healthcheck` kept, which every runtime that reads
/// health checks takes from OCI configs too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339, second precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The architecture it runs on.
    pub architecture: Architecture,
    /// The operating system it runs on.
    pub os: Os,
    /// How its containers run.
    #[serde(default)]
    pub config: ContainerConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// One line for each step that made it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

impl Document for ImageConfig {
    const MEDIA_TYPE: &'static str = media_type::CONFIG;
}

/// The layers of an image by their uncompressed digests, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Diff IDs, lowest first.
    pub diff_ids: Vec<DiffId>,
}

impl RootFs {
    /// The root filesystem these layers make.
    #[must_use]
    pub fn new(diff_ids: Vec<DiffId>) -> Self {
        Self { kind: "layers".to_owned(), diff_ids }
    }
}

/// How containers of the image run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `uid[:gid]`, numeric in images clawbuild makes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports, such as `18789/tcp`, mapped to the empty object.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "keyed")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program every container starts with.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Paths that should be volumes, mapped to the empty object.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "keyed")]
    pub volumes: BTreeSet<String>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks a container to stop, such as `SIGTERM`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// How a container's health is probed (Docker's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
}

/// Docker's health check; times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// `["CMD", program, argument…]`, `["CMD-SHELL", line]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Time between probes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Time one probe may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Time after the start in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Failures in a row that make a container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Docker writes `null` where OCI leaves a field out.
fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Sets that the specification writes as maps to the empty object.
mod keyed {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(serde::Serialize, Deserialize)]
    struct Empty {}

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Empty {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Option<Empty>>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes_and_keeps_the_health_check() {
        let docker = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":null,
            "ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":30000000000}},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config: ImageConfig = serde_json::from_str(docker).expect("parses");
        assert_eq!(config.config.exposed_ports.first().map(String::as_str), Some("80/tcp"));
        let text = String::from_utf8(config.to_bytes()).expect("utf-8");
        assert!(text.contains(r#""ExposedPorts":{"80/tcp":{}}"#), "{text}");
        assert!(text.contains(r#""Healthcheck":{"Test":["CMD","true"],"Interval":30000000000}"#), "{text}");
        assert!(!text.contains("Volumes"));
    }
}
