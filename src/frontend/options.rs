//! What the client asks for. Spec: BuildKit `frontend/dockerui/config.go`, whose options every client knows.

use std::collections::{BTreeMap, BTreeSet};

use buildkit::gateway::CacheImport;
use diag::{Diagnostic, Reported, codes, did_you_mean};
use oci::Platform;
use plan::Epoch;
use serde::Deserialize;

use crate::workspace::RECIPE_FILE;

const BUILD_ARGUMENT: &str = "build-arg:";
const CONTEXT: &str = "context:";
const LABEL: &str = "label:";
const LOCAL_SESSION: &str = "local-sessionid:";
/// Options that change how a Dockerfile's steps run, and which steps of recipes do not obey.
const WITHOUT_EFFECT: [&str; 13] = [
    "add-hosts",
    "cgroup-parent",
    "cpuperiod",
    "cpuquota",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "force-network-mode",
    "hostname",
    "memory",
    "memswap",
    "shm-size",
    "ulimit",
];

/// The options, read.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The recipe's path in the directory it is in.
    pub(super) filename: String,
    /// The client's name of that directory, if it says one.
    pub(super) recipe_directory: Option<String>,
    /// The client's name of the main directory.
    pub(super) main_directory: String,
    /// Where the main directory is, if not with the client.
    pub(super) remote: Option<String>,
    /// What is built for; the recipe or the daemon decides where none is given.
    pub(super) platforms: Vec<Platform>,
    /// Whether the result is an index even for one platform.
    pub(super) is_index: bool,
    /// The stage asked for, if not the image.
    pub(super) target: Option<String>,
    /// Which steps run although their results are known.
    pub(super) no_cache: NoCache,
    /// The bound of all times in the image.
    pub(super) epoch: Option<Epoch>,
    /// Labels for the image.
    pub(super) labels: BTreeMap<String, String>,
    /// Directories and images by name, and where they are: `local:NAME`, `docker-image://…`.
    pub(super) contexts: BTreeMap<String, String>,
    /// Caches to look into.
    pub(super) cache_imports: Vec<CacheImport>,
    /// What is asked instead of a build.
    pub(super) subrequest: Option<String>,
    /// What was given to no effect.
    pub(super) ignored: BTreeSet<String>,
    /// The sessions of directories that are not with the client that asked for the build.
    sessions: BTreeMap<String, String>,
    session: String,
}

/// An option that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OptionError {
    /// Its value means nothing.
    #[error("the option `{option}` cannot be used: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with the value.
        why: String,
    },
    /// Something is given for a name that stands for nothing.
    #[error("nothing in the build is called `{name}`, so `--build-context {name}=…` means nothing")]
    UnknownContext {
        /// The name.
        name: String,
        /// The names there are.
        known: BTreeSet<String>,
    },
}

impl Reported for OptionError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::frontend::OPTION, self.to_string());
        match self {
            Self::Value { .. } => diagnostic,
            Self::UnknownContext { name, known } => match did_you_mean(name, known.iter().map(String::as_str)) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => {
                    let known: Vec<&str> = known.iter().map(String::as_str).collect();
                    diagnostic.help(format!("names in the build: {}", known.join(", ")))
                }
            },
        }
    }
}

/// Which steps run although their results are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoCache {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Those of these stages.
    Stages(Vec<String>),
}

/// Spec: BuildKit `api/services/control` `CacheOptionsEntry`, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CacheEntry {
    #[serde(alias = "type")]
    r#type: String,
    #[serde(default, alias = "attrs")]
    attrs: BTreeMap<String, String>,
}

impl Options {
    /// Reads the options of a build by this session.
    ///
    /// # Errors
    /// A value that means nothing.
    pub(super) fn read(given: &BTreeMap<String, String>, session: &str) -> Result<Self, OptionError> {
        let text = |key: &str| given.get(key).filter(|value| !value.is_empty()).cloned();
        let prefixed = |prefix: &str| -> BTreeMap<String, String> {
            let strip = |(key, value): (&String, &String)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()));
            given.iter().filter_map(strip).collect()
        };
        let main_directory = text("contextkey").unwrap_or_else(|| "context".to_owned());
        let platforms = text("platform").unwrap_or_default();
        let platforms = platforms.split(',').filter(|word| !word.is_empty()).map(str::parse);
        let platforms: Vec<Platform> = platforms
            .collect::<Result<_, oci::PlatformError>>()
            .map_err(|error| bad("platform", &error.to_string()))?;
        let arguments = prefixed(BUILD_ARGUMENT);
        let multi = arguments.get("BUILDKIT_MULTI_PLATFORM").cloned().or_else(|| text("multi-platform"));
        let is_index = match multi.as_deref().map(boolean) {
            None => platforms.len() > 1,
            Some(Some(false)) if platforms.len() > 1 => {
                return Err(bad("multi-platform", "it is false, and there are several platforms"));
            }
            Some(Some(is_index)) => is_index,
            Some(None) => return Err(bad("multi-platform", "it is neither true nor false")),
        };
        let epoch = arguments.get("SOURCE_DATE_EPOCH").filter(|epoch| !epoch.is_empty());
        let epoch = epoch.map(|epoch| match epoch.parse::<u32>() {
            Ok(seconds) => Ok(Epoch(i64::from(seconds))),
            Err(_) => Err(bad("build-arg:SOURCE_DATE_EPOCH", &format!("`{epoch}` is no number of seconds since 1970"))),
        });
        let arguments = arguments.into_keys().filter(|name| name != "SOURCE_DATE_EPOCH");
        let arguments = arguments.filter(|name| !name.starts_with("BUILDKIT_")).map(|name| format!("build-arg:{name}"));
        let without_effect =
            WITHOUT_EFFECT.iter().filter(|key| given.get(**key).is_some_and(|value| !value.is_empty()));
        Ok(Self {
            filename: text("filename").unwrap_or_else(|| RECIPE_FILE.to_owned()),
            recipe_directory: text("dockerfilekey"),
            remote: text(&main_directory),
            main_directory,
            platforms,
            is_index,
            target: text("target"),
            no_cache: match given.get("no-cache").map(String::as_str) {
                None => NoCache::Nothing,
                Some("") => NoCache::Everything,
                Some(stages) => NoCache::Stages(stages.split(',').map(str::to_owned).collect()),
            },
            epoch: epoch.transpose()?,
            labels: prefixed(LABEL),
            contexts: prefixed(CONTEXT),
            cache_imports: cache_imports(given)?,
            subrequest: text("requestid"),
            ignored: arguments.chain(without_effect.map(|key| (*key).to_owned())).collect(),
            sessions: prefixed(LOCAL_SESSION),
            session: session.to_owned(),
        })
    }

    /// The session that offers a directory.
    pub(super) fn session_of(&self, directory: &str) -> &str {
        self.sessions.get(directory).unwrap_or(&self.session)
    }

    /// What stands for a name on one platform.
    pub(super) fn context(&self, name: &str, platform: Platform) -> Option<&str> {
        let of_platform = self.contexts.get(&format!("{name}::{platform}"));
        of_platform.or_else(|| self.contexts.get(name)).map(String::as_str)
    }

    /// Refuses names that nothing stands for, since a mistyped one would silently change nothing.
    ///
    /// # Errors
    /// The first such name.
    pub(super) fn check_contexts(&self, known: &BTreeSet<String>) -> Result<(), OptionError> {
        let plain = |name: &String| name.split("::").next().unwrap_or_default().to_owned();
        match self.contexts.keys().map(plain).find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(OptionError::UnknownContext { name, known: known.clone() }),
        }
    }
}

fn bad(option: &'static str, why: &str) -> OptionError {
    OptionError::Value { option, why: why.to_owned() }
}

/// Spec: Go `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn cache_imports(given: &BTreeMap<String, String>) -> Result<Vec<CacheImport>, OptionError> {
    let entries: Vec<CacheEntry> = match given.get("cache-imports").filter(|text| !text.is_empty()) {
        Some(text) => serde_json::from_str(text).map_err(|error| bad("cache-imports", &error.to_string()))?,
        None => Vec::new(),
    };
    let references = given.get("cache-from").map(String::as_str).unwrap_or_default();
    let references = references.split(',').filter(|reference| !reference.is_empty()).map(|reference| CacheImport {
        kind: "registry".to_owned(),
        attributes: BTreeMap::from([("ref".to_owned(), reference.to_owned())]),
    });
    let entries = entries.into_iter().map(|entry| CacheImport { kind: entry.r#type, attributes: entry.attrs });
    Ok(entries.chain(references).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Options, OptionError> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::read(&given, "session")
    }

    #[test]
    fn nothing_given_leaves_the_defaults() {
        let options = read(&[]).expect("there is nothing to get wrong");
        assert_eq!((&*options.filename, options.recipe_directory), ("recipe.toml", None));
        assert_eq!((&*options.main_directory, options.remote), ("context", None));
        assert!(options.platforms.is_empty() && !options.is_index && options.ignored.is_empty());
        assert_eq!(options.no_cache, NoCache::Nothing);
    }

    #[test]
    fn what_docker_buildx_hands_over_is_understood() {
        let options = read(&[
            ("filename", "a/recipe.toml"),
            ("platform", "linux/amd64,linux/arm64/v8"),
            ("no-cache", ""),
            ("build-arg:SOURCE_DATE_EPOCH", "12"),
            ("build-arg:BUILDKIT_SYNTAX", "x"),
            ("build-arg:VERSION", "1"),
            ("shm-size", "10"),
            ("label:a", "b"),
            ("context:base/node::linux/arm64", "docker-image://x"),
            ("context:base/node", "docker-image://y"),
            ("local-sessionid:context", "other"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"r"}}]"#),
            ("cache-from", "s"),
        ])
        .expect("all of it is known");
        assert_eq!(options.platforms, [Platform::LINUX_AMD64, Platform::LINUX_ARM64]);
        assert!(options.is_index);
        assert_eq!(options.no_cache, NoCache::Everything);
        assert_eq!(options.epoch, Some(Epoch(12)));
        assert_eq!(options.ignored.iter().map(String::as_str).collect::<Vec<_>>(), ["build-arg:VERSION", "shm-size"]);
        assert_eq!(options.context("base/node", Platform::LINUX_ARM64), Some("docker-image://x"));
        assert_eq!(options.context("base/node", Platform::LINUX_AMD64), Some("docker-image://y"));
        assert_eq!((options.session_of("context"), options.session_of("dockerfile")), ("other", "session"));
        let references: Vec<&str> = options.cache_imports.iter().map(|import| &*import.attributes["ref"]).collect();
        assert_eq!(references, ["r", "s"]);
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for given in [
            &[("platform", "linux/amd64,plan9/x")][..],
            &[("build-arg:SOURCE_DATE_EPOCH", "now")],
            &[("multi-platform", "perhaps")],
            &[("multi-platform", "0"), ("platform", "linux/amd64,linux/arm64")],
            &[("cache-imports", "[")],
        ] {
            let error = read(given).expect_err("it means nothing");
            assert!(matches!(error, OptionError::Value { .. }), "{error}");
        }
    }

    #[test]
    fn a_name_for_nothing_gets_the_nearest_one() {
        let options = read(&[("context:base/nod", "docker-image://x")]).expect("the form is right");
        let known = BTreeSet::from(["base/node".to_owned(), "source".to_owned()]);
        let error = options.check_contexts(&known).expect_err("there is no such base");
        assert_eq!(error.diagnostic().help, ["did you mean `base/node`?"]);
    }
}
