//! What a build says about itself, `--json`.

use serde_json::Value;

use crate::Output;

/// One image that `clawbuild … --json` built.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
    /// The config's digest.
    pub config: String,
    /// The layers' diff IDs, lowest first.
    pub diff_ids: Vec<String>,
    /// The layers' digests, lowest first.
    pub layers: Vec<String>,
    /// The image's names.
    pub references: Vec<String>,
}

impl Built {
    /// The one image of a build that succeeded.
    ///
    /// # Panics
    /// When it did not, or says something else.
    #[track_caller]
    pub fn of(output: Output) -> Self {
        let output = output.success();
        let json = output.json();
        let [product] = &**json.as_array().expect("an array of targets") else { panic!("not one target: {json}") };
        let [image] = &**product["images"].as_array().expect("images") else { panic!("not one image: {json}") };
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned();
        let each = |key: &str, field: &str| -> Vec<String> {
            image[key].as_array().expect("an array").iter().map(|item| text(&item[field])).collect()
        };
        Self {
            digest: text(&image["manifest"]["digest"]),
            config: text(&image["config"]),
            diff_ids: each("layers", "diff_id"),
            layers: each("layers", "digest"),
            references: product["references"].as_array().expect("an array").iter().map(text).collect(),
        }
    }
}

/// The steps of a build run with `--progress json`: name and outcome (`done`, `cached`, `failed`, `canceled`), in the
/// order they ended.
///
/// # Panics
/// When a step ends that never began.
pub fn steps(output: &Output) -> Vec<(String, String)> {
    let events: Vec<Value> = output.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_kind = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
    of_kind("finished")
        .map(|finished| {
            let started = of_kind("started").find(|started| started["task"] == finished["task"]);
            let name = started.unwrap_or_else(|| panic!("{finished} never began"))["name"].as_str();
            (name.unwrap_or_default().to_owned(), finished["outcome"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}
