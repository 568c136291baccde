//! Configuration files: the baked default and the overrides, written to a copy.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::manifest::{ConfigFile, Override, Overwrite, SECRET_MODE};
use crate::render;
use crate::sys::{file, say, Errno};
use crate::value::Value;

/// How large a configuration may be, in bytes.
const MAX_SIZE: usize = 8 << 20;

/// What a configuration file is to hold.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// This text.
    Text {
        /// The text.
        text: String,
        /// How many overrides went into it.
        overridden: usize,
        /// The mode it is to have.
        mode: u32,
    },
    /// What it holds already.
    Kept,
}

/// Renders one configuration, and writes nothing.
///
/// # Errors
/// The default cannot be read, or a variable does not fit it.
pub(crate) fn render(config: &ConfigFile, environment: &Environment) -> Result<Rendered, Failure> {
    let existing = match config.overwrite {
        Overwrite::Always => None,
        Overwrite::IfMissing if file::exists(&config.path) => return Ok(Rendered::Kept),
        Overwrite::IfMissing => None,
        Overwrite::Merge => Some(&config.path).filter(|path| file::exists(path)),
    };
    let (source, mut text) = match existing.or(config.default.as_ref()) {
        Some(path) => (path, read(path)?),
        None => (&config.path, config.format.empty_document().to_owned()),
    };
    render::check(config.format, &text).map_err(|error| problem(source, error.describe(&[])))?;
    let mut overridden = 0;
    // What an earlier start put into a file that is kept may have been secret.
    let mut mode = match existing.and_then(|path| file::status(path).ok()) {
        Some(status) => config.mode & status.mode,
        None => config.mode,
    };
    for entry in config.overrides.iter().filter(|entry| !entry.key.is_empty()) {
        if let Some(value) = value(entry, environment)? {
            text = render::set(config.format, &text, &entry.key, &value)
                .map_err(|error| Failure::Variable { name: entry.env.clone(), problem: error.describe(&entry.key) })?;
            overridden += 1;
            if entry.secret || environment.is_from_file(&entry.env) {
                mode = SECRET_MODE;
            }
        }
    }
    Ok(Rendered::Text { text, overridden, mode })
}

/// The override's value, if its variable has one.
fn value(entry: &Override, environment: &Environment) -> Result<Option<Value>, Failure> {
    let Some(raw) = environment.text(&entry.env)? else {
        return Ok(None);
    };
    let value = entry.kind.read(raw).ok_or_else(|| {
        let found = if entry.secret || environment.is_from_file(&entry.env) {
            "; its value is secret and not shown".to_owned()
        } else {
            format!(", not `{}`", raw.escape_debug())
        };
        Failure::Variable { name: entry.env.clone(), problem: format!("expected {}{found}", entry.kind) }
    })?;
    Ok(Some(value))
}

fn problem(path: &str, problem: String) -> Failure {
    Failure::Config { path: path.to_owned(), problem }
}

fn read(path: &str) -> Result<String, Failure> {
    let content = file::read(path, MAX_SIZE).map_err(|error| problem(path, error.to_string()))?;
    let content = content.ok_or_else(|| problem(path, "the file is larger than 8 MiB".to_owned()))?;
    String::from_utf8(content).map_err(|_| problem(path, "the file is not UTF-8".to_owned()))
}

/// Renders one configuration and puts it where the runtime reads it, whole or not at all.
///
/// A file that was mounted there by whoever runs the container is theirs: it stays as it is, and a line says so.
///
/// # Errors
/// It cannot be rendered or written.
pub(crate) fn install(config: &ConfigFile, environment: &Environment) -> Result<(), Failure> {
    if is_mounted(&config.path) {
        say(format_args!("{} is mounted, and stays as it is", config.path));
        return Ok(());
    }
    match render(config, environment)? {
        Rendered::Kept => Ok(()),
        Rendered::Text { text, mode, .. } => {
            write(&config.path, &text, mode).map_err(|error| problem(&config.path, error.to_string()))
        }
    }
}

/// Whether a file of its own is mounted at `path`.
fn is_mounted(path: &str) -> bool {
    let Ok(status) = file::status(path) else {
        return false;
    };
    let directory = file::parent(path).and_then(|parent| file::status(parent).ok());
    directory.is_some_and(|directory| directory.device != status.device) || is_mount_point(path)
}

/// Whether the mount table names `path`: a file can be mounted over another of the same device.
fn is_mount_point(path: &str) -> bool {
    let table = file::read("/proc/self/mountinfo", MAX_SIZE).ok().flatten().unwrap_or_default();
    let mut lines = table.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(path.as_bytes()))
}

/// Writes a file by way of a temporary one beside it.
fn write(path: &str, text: &str, mode: u32) -> Result<(), Errno> {
    if let Some(directory) = file::parent(path) {
        file::make_dirs(directory, 0o700)?;
    }
    let temporary = temporary_beside(path);
    match file::remove(&temporary) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    let written = file::write_new(&temporary, text.as_bytes(), mode).and_then(|()| file::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; the temporary file may not even be there.
        let _ = file::remove(&temporary);
    }
    written
}

fn temporary_beside(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{directory}/.{name}.claw-init")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
