//! The manifest: what a recipe says about running its image, as clawbuild writes it to `/etc/claw/init.json`.
//!
//! The file is strict JSON. Unknown keys are errors, so a manifest never asks for what this program would silently not do.
//! README.md beside this crate describes every key.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::str::FromStr;
use core::time::Duration;

use crate::failure::Failure;
use crate::json::{self, Dialect, Node, Shape};
use crate::render::Format;
use crate::signal::Signal;
use crate::sys;
use crate::value::Kind;

/// Where the manifest is unless told otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/claw/init.json";
/// The version of the manifest this program reads.
const VERSION: u64 = 1;
/// How long children have to end when the manifest does not say.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a probe may take when the manifest does not say.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// What runs. Never empty.
    pub(crate) processes: Vec<Process>,
    /// How they are asked to end.
    pub(crate) stop_signal: Signal,
    /// How long they have for it.
    pub(crate) stop_timeout: Duration,
    /// How to tell that the container works.
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

/// A program to run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    /// Its name in messages and before the lines of its output.
    pub(crate) name: String,
    /// Program and arguments. Never empty.
    pub(crate) command: Vec<String>,
    pub(crate) on_exit: OnExit,
}

/// What the end of a process leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExit {
    /// All others are stopped, and its status is the container's.
    Stop,
    /// It is started again.
    Restart,
    /// It is started again if it failed; otherwise nothing happens.
    RestartOnFailure,
    /// Nothing.
    Ignore,
}

/// How to tell that the container works.
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
        let manifest = Self {
            user: root.optional("user").map(user).transpose()?,
            env: root.optional("env").map_or(Ok(Vec::new()), pairs)?,
            secrets_dir: root.optional("secrets_dir").map_or(Ok("/run/secrets".to_owned()), Entry::path)?,
            volumes: root.optional("volumes").map_or(Ok(Vec::new()), |entry| entry.each(volume))?,
            config: root.optional("config").map_or(Ok(Vec::new()), |entry| entry.each(config_file))?,
            processes: processes(root.optional("command"), root.optional("processes"))?,
            stop_signal: root.optional("stop_signal").map_or(Ok(Signal::TERM), signal)?,
            stop_timeout: root.optional("stop_timeout_ms").map_or(Ok(STOP_TIMEOUT), Entry::millis)?,
            health: root.optional("health").map(health).transpose()?,
        };
        root.finish()?;
        Ok(manifest)
    }

    /// The override of that variable, if one is declared.
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
        overrides: fields.optional("overrides").map_or(Ok(Vec::new()), |entry| entry.each(one_override))?,
    };
    fields.finish()?;
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

fn processes(command: Option<Entry<'_>>, several: Option<Entry<'_>>) -> Result<Vec<Process>, String> {
    match (command, several) {
        (Some(command), None) => {
            Ok(vec![Process { name: "main".to_owned(), command: command.command()?, on_exit: OnExit::Stop }])
        }
        (None, Some(several)) => {
            let processes = several.each(process)?;
            let names: BTreeSet<&str> = processes.iter().map(|process| process.name.as_str()).collect();
            if processes.is_empty() || names.len() < processes.len() {
                return Err("`processes` must name at least one process, and each name once".to_owned());
            }
            Ok(processes)
        }
        (Some(_), Some(_)) | (None, None) => Err("the manifest must have either `command` or `processes`".to_owned()),
    }
}

fn process(entry: Entry<'_>) -> Result<Process, String> {
    let mut fields = entry.fields()?;
    let process = Process {
        name: fields.required("name")?.text()?,
        command: fields.required("command")?.command()?,
        on_exit: fields.optional("on_exit").map_or(Ok(OnExit::Stop), |entry| {
            entry.one_of("stop, restart, restart-on-failure or ignore", |word| match word {
                "stop" => Some(OnExit::Stop),
                "restart" => Some(OnExit::Restart),
                "restart-on-failure" => Some(OnExit::RestartOnFailure),
                "ignore" => Some(OnExit::Ignore),
                _ => None,
            })
        })?,
    };
    fields.finish()?;
    Ok(process)
}

fn signal(entry: Entry<'_>) -> Result<Signal, String> {
    entry.one_of("a signal such as SIGTERM", Signal::parse)
}

fn health(entry: Entry<'_>) -> Result<Health, String> {
    let place = entry.place.clone();
    let mut fields = entry.fields()?;
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
    fields.finish()?;
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

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// A value of the manifest and the words for its place.
struct Entry<'a> {
    text: &'a str,
    place: String,
    node: Node,
}

/// The members of an object, each of which is taken once.
struct Fields<'a> {
    place: String,
    members: Vec<(String, Entry<'a>)>,
}

impl<'a> Fields<'a> {
    fn of(text: &'a str, place: &str, node: Node) -> Result<Self, String> {
        Entry { text, place: place.to_owned(), node }.fields()
    }

    /// The member of that name. `null` counts as absent.
    fn optional(&mut self, name: &str) -> Option<Entry<'a>> {
        let index = self.members.iter().position(|(key, _)| key == name)?;
        let (_, entry) = self.members.remove(index);
        (entry.node.shape != Shape::Null).then_some(entry)
    }

    fn required(&mut self, name: &str) -> Result<Entry<'a>, String> {
        self.optional(name).ok_or_else(|| format!("{} lacks `{name}`", self.place))
    }

    /// Fails if a member was not taken: nothing here knows it, or it is there twice.
    fn finish(self) -> Result<(), String> {
        match self.members.first() {
            Some((name, _)) => Err(format!("{} has an unknown key `{name}`", self.place)),
            None => Ok(()),
        }
    }
}

impl<'a> Entry<'a> {
    fn wrong(&self, expected: &str) -> String {
        format!("{} must be {expected}", self.place)
    }

    fn fields(self) -> Result<Fields<'a>, String> {
        let Shape::Object(members) = self.node.shape else {
            return Err(self.wrong("an object"));
        };
        let members = members.into_iter().map(|member| {
            let place = format!("`{}`", member.key);
            (member.key, Self { text: self.text, place, node: member.value })
        });
        Ok(Fields { members: members.collect(), place: self.place })
    }

    fn each<T>(self, read: impl Fn(Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let Shape::Array(items) = self.node.shape else {
            return Err(self.wrong("a list"));
        };
        let entry =
            |(index, node)| Self { text: self.text, place: format!("entry {} of {}", index + 1, self.place), node };
        items.into_iter().enumerate().map(entry).map(read).collect()
    }

    fn text(self) -> Result<String, String> {
        match self.node.shape {
            Shape::Text(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    fn boolean(self) -> Result<bool, String> {
        match self.node.shape {
            Shape::Boolean(value) => Ok(value),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn number<T: FromStr>(self) -> Result<T, String> {
        let text = &self.text[self.node.span.clone()];
        let number = if self.node.shape == Shape::Number { text.parse().ok() } else { None };
        number.ok_or_else(|| self.wrong("a whole number in its range"))
    }

    fn millis(self) -> Result<Duration, String> {
        // A day more than covers every drain, and keeps deadlines in the clock's range.
        let millis: u64 = self.number()?;
        Ok(Duration::from_millis(millis.min(86_400_000)))
    }

    fn one_of<T>(self, words: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        match &self.node.shape {
            Shape::Text(word) => parse(word).ok_or_else(|| format!("{} must be {words}, not `{word}`", self.place)),
            _ => Err(self.wrong(words)),
        }
    }

    fn path(self) -> Result<String, String> {
        let place = self.place.clone();
        let path = self.text()?;
        if path.starts_with('/') && !path.contains('\0') {
            Ok(path)
        } else {
            Err(format!("{place} must be an absolute path"))
        }
    }

    fn variable(self) -> Result<String, String> {
        let place = self.place.clone();
        self.text().and_then(|name| {
            if is_variable(&name) {
                Ok(name)
            } else {
                Err(format!("{place} must be a variable's name"))
            }
        })
    }

    fn command(self) -> Result<Vec<String>, String> {
        let place = self.place.clone();
        let command = self.each(Entry::text)?;
        let usable =
            command.first().is_some_and(|program| !program.is_empty()) && command.iter().all(|arg| !arg.contains('\0'));
        if usable {
            Ok(command)
        } else {
            Err(format!("{place} must be a program and its arguments"))
        }
    }

    /// A path to ask for by HTTP. Nothing in it may end the request line.
    fn request_path(self) -> Result<String, String> {
        let place = self.place.clone();
        let path = self.text()?;
        let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
        if path.starts_with('/') && printable {
            Ok(path)
        } else {
            Err(format!("{place} must be a path such as \"/health\""))
        }
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
