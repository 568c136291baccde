//! Settings: the command line over the environment over the user's file, resolved once, with nothing left open.

mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use buildkit::address::BuilderArgument;
use diag::{Diagnostic, Source, codes};
use serde::Deserialize;
use url::Url;

use crate::cli::Failure;
use crate::pipeline::{EngineSettings, Wish};
use crate::ui::progress::Mode;
pub use variables::Variables;

/// What the user settled before asking for anything in particular.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything between runs is kept.
    pub store: PathBuf,
    /// What runs steps.
    pub engine: EngineSettings,
    /// Whether the network is off.
    pub offline: bool,
    /// Whether the lock must not change.
    pub locked: bool,
    /// How progress is shown.
    pub progress: Mode,
    /// URL prefixes fetched from elsewhere.
    pub mirrors: BTreeMap<String, String>,
    /// Sources of recipes fetched from elsewhere in this run, by the address the recipe or the lock has.
    pub sources: BTreeMap<String, Url>,
    /// The environment.
    pub variables: Variables,
}

/// `config.toml` in the user's configuration directory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserFile {
    store: Option<PathBuf>,
    mirrors: BTreeMap<String, String>,
}

impl Settings {
    /// Resolves the layers.
    pub(crate) fn resolve(global: &crate::cli::Global) -> Result<Self, Failure> {
        let variables = Variables::from_process();
        let file = user_file(&variables)?;
        let store = global.store.clone().or_else(|| variables.store.clone()).or(file.store);
        let store = match store.or_else(|| variables.cache_home().map(|home| home.join("clawbuild"))) {
            Some(store) => store,
            None => {
                return Err(Diagnostic::new(
                    codes::cli::USAGE,
                    "it is not known where to keep the store: HOME is not set",
                )
                .help("name a directory with `--store DIR` or `CLAWBUILD_STORE`")
                .into());
            }
        };
        let mut mirrors = file.mirrors;
        mirrors.extend(variables.mirrors()?);
        Ok(Self {
            store,
            engine: engine(global, &variables)?,
            offline: global.offline || variables.offline,
            locked: global.locked,
            progress: global.progress.as_deref().and_then(Mode::parse).unwrap_or_default(),
            mirrors,
            sources: BTreeMap::new(),
            variables,
        })
    }
}

/// The command line's builders, or else the environment's one.
fn engine(global: &crate::cli::Global, variables: &Variables) -> Result<EngineSettings, Failure> {
    let wish = match global.engine.as_ref().or(variables.engine.as_ref()) {
        None => Wish::Any,
        Some(name) => Wish::parse(name).ok_or_else(|| {
            Diagnostic::new(codes::cli::SETTINGS, format!("CLAWBUILD_ENGINE names no engine: `{name}`"))
                .help("engines are auto, embedded, docker and buildkit")
        })?,
    };
    if let (Wish::Docker | Wish::Embedded, [_, ..]) = (wish, &global.builder[..]) {
        let name = if wish == Wish::Docker { "docker" } else { "embedded" };
        let message = format!("`--engine {name}` and `--builder` ask for different engines");
        return Err(Diagnostic::new(codes::cli::USAGE, message).help("leave one of them out").into());
    }
    let named = match (&global.builder[..], wish) {
        ([], Wish::Any | Wish::BuildKit) => variables.buildkit_host.as_slice(),
        (builders, _) => builders,
    };
    let builders = named.iter().map(|builder| builder.parse()).collect::<Result<Vec<BuilderArgument>, _>>()?;
    Ok(EngineSettings { wish, builders })
}

fn user_file(variables: &Variables) -> Result<UserFile, Failure> {
    let Some(path) = variables.config_home().map(|home| home.join("clawbuild/config.toml")) else {
        return Ok(UserFile::default());
    };
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(UserFile::default()) };
    toml::from_str(&text).map_err(|error| misread(&path, &text, &error))
}

fn misread(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let source = Source::new(path.display().to_string(), text);
    Diagnostic::new(codes::cli::SETTINGS, "the settings file cannot be read")
        .label(&source, error.span().unwrap_or_default().into(), error.message())
        .help("settings are `store = \"DIR\"` and `[mirrors]` with `\"PREFIX\" = \"REPLACEMENT\"`")
        .into()
}
