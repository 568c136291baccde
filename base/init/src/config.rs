//! Configuration files: the baked default and the overrides, written to a copy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::environment::{self, Environment};
use crate::failure::Failure;
use crate::manifest::{ConfigFile, Override, Overwrite};
use crate::render;
use crate::value::Value;

/// How large a configuration may be, in bytes.
const MAX_SIZE: u64 = 8 << 20;

/// What a configuration file is to hold.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// This text.
    Text {
        /// The text.
        text: String,
        /// How many overrides went into it.
        overridden: usize,
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
        Overwrite::IfMissing if config.path.exists() => return Ok(Rendered::Kept),
        Overwrite::IfMissing => None,
        Overwrite::Merge => Some(&config.path).filter(|path| path.exists()),
    };
    let (source, mut text) = match existing.or(config.default.as_ref()) {
        Some(path) => (path, read(path)?),
        None => (&config.path, config.format.empty_document().to_owned()),
    };
    render::check(config.format, &text).map_err(|error| problem(source, error.describe(&[])))?;
    let mut overridden = 0;
    for entry in config.overrides.iter().filter(|entry| !entry.key.is_empty()) {
        if let Some(value) = value(entry, environment)? {
            text = render::set(config.format, &text, &entry.key, &value)
                .map_err(|error| Failure::Variable { name: entry.env.clone(), problem: error.describe(&entry.key) })?;
            overridden += 1;
        }
    }
    Ok(Rendered::Text { text, overridden })
}

/// The override's value, if its variable has one.
fn value(entry: &Override, environment: &Environment) -> Result<Option<Value>, Failure> {
    let Some(raw) = environment.get(&entry.env) else {
        return Ok(None);
    };
    let raw = environment::text(&entry.env, raw)?;
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

fn problem(path: &Path, problem: String) -> Failure {
    Failure::Config { path: path.to_owned(), problem }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| problem(path, error.to_string()))?;
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(|error| problem(path, error.to_string()))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_SIZE) {
        return Err(problem(path, "the file is larger than 8 MiB".to_owned()));
    }
    Ok(text)
}

/// Renders one configuration and puts it where the runtime reads it, whole or not at all.
///
/// A file that was mounted there by whoever runs the container is theirs: it stays as it is, and a line says so.
///
/// # Errors
/// It cannot be rendered or written.
pub(crate) fn install(config: &ConfigFile, environment: &Environment) -> Result<(), Failure> {
    if is_mounted(&config.path) {
        eprintln!("claw-init: {} is mounted, and stays as it is", config.path.display());
        return Ok(());
    }
    match render(config, environment)? {
        Rendered::Kept => Ok(()),
        Rendered::Text { text, .. } => {
            write(&config.path, &text).map_err(|error| problem(&config.path, error.to_string()))
        }
    }
}

/// Whether a file of its own is mounted at `path`.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    match (device(path), path.parent().and_then(device)) {
        (Some(file), Some(directory)) => file != directory || is_mount_point(path),
        _ => false,
    }
}

/// Whether the mount table names `path`: a file of the same device can be mounted over its own.
fn is_mount_point(path: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|target| Path::new(target) == path)
}

/// Writes a file that only its owner may read, by way of a temporary one beside it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = temporary_beside(path);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one to tell; the temporary file may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".claw-init");
    path.with_file_name(name)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
