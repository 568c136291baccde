//! The registry's documents, as far as they matter here. Old packages are sloppy: what is not needed may be anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A package with all its versions.
#[derive(Debug, Deserialize)]
pub(super) struct Packument {
    #[serde(rename = "dist-tags", default)]
    pub(super) dist_tags: BTreeMap<String, String>,
    pub(super) versions: BTreeMap<String, VersionDocument>,
    /// Version to RFC 3339 time, and a few keys that are no versions.
    #[serde(default)]
    pub(super) time: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionDocument {
    pub(super) dist: Dist,
    #[serde(default, deserialize_with = "strings_of_a_map")]
    pub(super) engines: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "text_if_it_is_one")]
    pub(super) deprecated: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dist {
    pub(super) tarball: String,
    #[serde(default)]
    pub(super) integrity: Option<String>,
}

fn strings_of_a_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Value::Object(map) = Value::deserialize(deserializer)? else { return Ok(BTreeMap::new()) };
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect())
}

fn text_if_it_is_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Ok(Some(text)),
        Value::Bool(true) => Ok(Some("deprecated".to_owned())),
        _ => Ok(None),
    }
}
