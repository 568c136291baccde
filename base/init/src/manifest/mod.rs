//! The manifest: what a recipe says about running its image, as clawbuild writes it to `/etc/claw/init.json`.
//!
//! The file is strict JSON. Unknown keys are errors, so a manifest never asks for what this program would silently not do.
//! README.md beside this crate describes every key.

mod fields;
mod process;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::failure::Failure;
use crate::json::{self, Dialect};
use crate::render::Format;
use crate::signal::Signal;
use crate::sys;
use crate::value::Kind;
use fields::{is_variable, Entry, Fields};
pub(crate) use process::{Process, Ready, Restart};

/// Where the manifest is unless told otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/claw/init.json";
/// The version of the manifest this program reads.
const VERSION: u64 = 1;
/// How long children have to end when the manifest does not say.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a probe may take when the manifest does not say.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The mode of files that hold secrets, and of all others where the manifest does not say.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// How large a manifest may be, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// A manifest, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Whom to become when started as root.
    pub(crate) user: Option<User>,
    /// Variables and their values where nothing else sets them.
    pub(crate) env: Vec<(String, String)>,
    /// The directory in which secrets are mounted.
    pub(crate) secrets_dir: String,
    /// Directories that are mounted into the container.
    pub(crate) volumes: Vec<Volume>,
    /// Configuration files to render.
    pub(crate) config: Vec<ConfigFile>,
    /// What runs. Exactly one is the main one.
    pub(crate) processes: Vec<Process>,
    /// How everything is ended.
    pub(crate) stop: Stop,
    /// How to tell that the container works, besides what is known of each process.
    pub(crate) health: Option<Health>,
}

/// A user by number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The home directory.
    pub(crate) home: String,
}

/// A directory that is mounted into the container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volume {
    pub(crate) path: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The mode it is made with where it does not exist.
    pub(crate) mode: u32,
}

/// A configuration file to render.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfigFile {
    /// The baked default; an empty document where there is none.
    pub(crate) default: Option<String>,
    /// Where the runtime reads it.
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) overwrite: Overwrite,
    /// The mode it is written with, unless a secret went into it.
    pub(crate) mode: u32,
    /// In the order in which they are applied.
    pub(crate) overrides: Vec<Override>,
}

/// What happens to a file that is at a configuration's path already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// It is replaced: default and overrides are all there is.
    Always,
    /// It is kept as it is.
    IfMissing,
    /// It is kept, and the overrides are applied to it.
    Merge,
}

/// A variable that changes a configuration, or that the runtime itself reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Override {
    /// The variable.
    pub(crate) env: String,
    /// Where in the file its value goes; empty when the runtime reads the variable itself.
    pub(crate) key: Vec<String>,
    pub(crate) kind: Kind,
    /// Whether its value must never be shown.
    pub(crate) secret: bool,
}

/// How processes are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The signal that asks them to.
    pub(crate) signal: Signal,
    /// How long they have before they are killed.
    pub(crate) timeout: Duration,
}

/// How to tell that something works.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    pub(crate) probe: Probe,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Probe {
    /// `GET` on the loopback gives a 2xx status.
    Http {
        port: u16,
        /// A variable that holds the port where it was changed.
        port_env: Option<String>,
        path: String,
    },
    /// A program ends with status 0.
    Exec(Vec<String>),
    /// A Unix socket accepts connections.
    Unix(String),
}

impl Manifest {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// It cannot be read, is not JSON, or says something this program does not know.
    pub(crate) fn load(path: &str) -> Result<Self, Failure> {
        let failure = |problem: String| Failure::Manifest { path: path.to_owned(), problem };
        let content = sys::file::read(path, MAX_SIZE).map_err(|error| failure(error.to_string()))?;
        let content = content.ok_or_else(|| failure("the manifest is larger than 1 MiB".to_owned()))?;
        let text = String::from_utf8(content).map_err(|_| failure("the manifest is not UTF-8".to_owned()))?;
        Self::parse(&text).map_err(failure)
    }

    /// Reads a manifest's text. The error says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let root = json::parse(text, Dialect::Json).map_err(|error| error.to_string())?;
        let mut root = Fields::of(text, "the manifest", root)?;
        let version = root.required("version")?.number::<u64>()?;
        if version != VERSION {
            return Err(format!(
                "version {version} of the manifest is not known; this claw-init reads version {VERSION}"
            ));
        }
        let stop = Stop {
            signal: root.optional("stop_signal").map_or(Ok(Signal::TERM), signal)?,
            timeout: root.optional("stop_timeout_ms").map_or(Ok(STOP_TIMEOUT), Entry::millis)?,
        };
        let manifest = Self {
            user: root.optional("user").map(user).transpose()?,
            env: root.optional("env").map_or(Ok(Vec::new()), pairs)?,
            secrets_dir: root.optional("secrets_dir").map_or(Ok("/run/secrets".to_owned()), Entry::path)?,
            volumes: root.optional("volumes").map_or(Ok(Vec::new()), |entry| entry.each(volume))?,
            config: root.optional("config").map_or(Ok(Vec::new()), config_files)?,
            processes: process::processes(root.optional("command"), root.optional("processes"), stop)?,
            stop,
            health: root.optional("health").map(health).transpose()?,
        };
        root.finish()?;
        Ok(manifest)
    }

    /// The overrides of all configuration files.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = &Override> {
        self.config.iter().flat_map(|config| &config.overrides)
    }
}

fn user(entry: Entry<'_>) -> Result<User, String> {
    let mut fields = entry.fields()?;
    let uid = fields.required("uid")?.number()?;
    let gid = fields.optional("gid").map_or(Ok(uid), Entry::number)?;
    let home = fields.optional("home").map_or(Ok("/".to_owned()), Entry::path)?;
    fields.finish()?;
    Ok(User { uid, gid, home })
}

fn volume(entry: Entry<'_>) -> Result<Volume, String> {
    let mut fields = entry.fields()?;
    let path = fields.required("path")?.path()?;
    let uid = fields.required("uid")?.number()?;
    let gid = fields.optional("gid").map_or(Ok(uid), Entry::number)?;
    let mode = fields.optional("mode").map_or(Ok(0o700), mode)?;
    fields.finish()?;
    Ok(Volume { path, uid, gid, mode })
}

fn mode(entry: Entry<'_>) -> Result<u32, String> {
    let place = entry.place.clone();
    let text = entry.text()?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|_| octal);
    mode.ok_or_else(|| format!("{place} must be an octal mode such as \"0700\""))
}

fn config_files(entry: Entry<'_>) -> Result<Vec<ConfigFile>, String> {
    let files = entry.each(config_file)?;
    let mut written = BTreeSet::new();
    for file in &files {
        if !written.insert(file.path.as_str()) {
            return Err(format!("two entries of `config` have the path {}", file.path));
        }
    }
    // A default that is written to is none at the next start.
    match files.iter().filter_map(|file| file.default.as_deref()).find(|default| written.contains(default)) {
        Some(default) => Err(format!("the default {default} would be written to")),
        None => Ok(files),
    }
}

fn config_file(entry: Entry<'_>) -> Result<ConfigFile, String> {
    let mut fields = entry.fields()?;
    let config = ConfigFile {
        default: fields.optional("default").map(Entry::path).transpose()?,
        path: fields.required("path")?.path()?,
        format: fields.required("format")?.one_of("json, json5, toml, yaml or env", Format::parse)?,
        overwrite: fields.optional("overwrite").map_or(Ok(Overwrite::Always), |entry| {
            entry.one_of("always, if-missing or merge", |word| match word {
                "always" => Some(Overwrite::Always),
                "if-missing" => Some(Overwrite::IfMissing),
                "merge" => Some(Overwrite::Merge),
                _ => None,
            })
        })?,
        mode: fields.optional("mode").map_or(Ok(SECRET_MODE), mode)?,
        overrides: fields.optional("overrides").map_or(Ok(Vec::new()), |entry| entry.each(one_override))?,
    };
    fields.finish()?;
    if config.mode & !SECRET_MODE != 0 && config.overrides.iter().any(|entry| entry.secret) {
        return Err(format!("{} may hold a secret, and its `mode` lets others read it", config.path));
    }
    Ok(config)
}

fn one_override(entry: Entry<'_>) -> Result<Override, String> {
    let mut fields = entry.fields()?;
    let entry = Override {
        env: fields.required("env")?.variable()?,
        key: fields.optional("key").map_or(Ok(Vec::new()), |entry| entry.each(Entry::text))?,
        kind: fields.optional("type").map_or(Ok(Kind::String), |entry| {
            entry.one_of("string, integer, number, boolean, list or json", Kind::parse)
        })?,
        secret: fields.optional("secret").map_or(Ok(false), Entry::boolean)?,
    };
    fields.finish()?;
    Ok(entry)
}

fn signal(entry: Entry<'_>) -> Result<Signal, String> {
    entry.one_of("a signal such as SIGTERM", Signal::parse)
}

fn health(entry: Entry<'_>) -> Result<Health, String> {
    let place = entry.place.clone();
    let mut fields = entry.fields()?;
    let health = probe(&place, &mut fields)?;
    fields.finish()?;
    Ok(health)
}

/// What to ask, among other members of an object.
fn probe(place: &str, fields: &mut Fields<'_>) -> Result<Health, String> {
    let mut timeout = fields.optional("timeout_ms").map(Entry::millis).transpose()?;
    let probe = match (fields.optional("http"), fields.optional("exec"), fields.optional("unix")) {
        (Some(http), None, None) => {
            let mut http = http.fields()?;
            let probe = Probe::Http {
                port: http.required("port")?.number()?,
                port_env: http.optional("port_env").map(Entry::variable).transpose()?,
                path: http.required("path")?.request_path()?,
            };
            timeout = timeout.or(http.optional("timeout_ms").map(Entry::millis).transpose()?);
            http.finish()?;
            probe
        }
        (None, Some(exec), None) => Probe::Exec(exec.command()?),
        (None, None, Some(unix)) => Probe::Unix(unix.path()?),
        _ => return Err(format!("{place} must have exactly one of `http`, `exec` and `unix`")),
    };
    Ok(Health { probe, timeout: timeout.unwrap_or(PROBE_TIMEOUT) })
}

fn pairs(entry: Entry<'_>) -> Result<Vec<(String, String)>, String> {
    let fields = entry.fields()?;
    let mut pairs = Vec::new();
    for (name, value) in fields.members {
        if !is_variable(&name) {
            return Err(format!("`{name}` is no name of a variable"));
        }
        let value = value.text()?;
        if value.contains('\0') {
            return Err(format!("the value of `{name}` holds a null character"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
