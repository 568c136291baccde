//! The variables children get: what the container was started with, secrets from files, and the manifest's defaults.
//!
//! For a variable an override declares, the first that is there and not empty counts: the variable itself; the file
//! `NAME_FILE` names; a file in the secrets directory named like the variable, in any case, with `-` or `.` for `_`; the
//! manifest's default. Only declared variables are looked for in files: `SSL_CERT_FILE` is a path, not a secret's.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str;

use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::sys::file;

/// How large a secret may be, in bytes. The kernel takes no longer variables than 128 KiB.
const MAX_SECRET_SIZE: usize = 128 << 10;

/// Variables and their values, which are any bytes.
type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// Variables and their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: Variables,
    /// The variables whose values came from files.
    from_files: BTreeSet<String>,
}

impl Environment {
    /// These variables, as they are.
    pub(crate) fn of(variables: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self { variables: variables.collect(), from_files: BTreeSet::new() }
    }

    /// Puts together what was given and what files and the manifest say.
    ///
    /// # Errors
    /// A file that is named for a variable cannot be read, or holds what no variable can.
    pub(crate) fn gather(self, manifest: &Manifest) -> Result<Self, Failure> {
        let Self { mut variables, mut from_files } = self;
        let mounted = mounted_secrets(&manifest.secrets_dir);
        for entry in manifest.overrides() {
            let name = entry.env.as_str();
            if is_set(&variables, name) {
                continue;
            }
            let failure = |problem| Failure::Variable { name: name.to_owned(), problem };
            let pointer = format!("{name}_FILE");
            let file = match variables.remove(pointer.as_bytes()).filter(|path| !path.is_empty()) {
                Some(path) => Some(String::from_utf8(path).map_err(|_| failure(format!("{pointer} is not UTF-8")))?),
                None => mounted.get(&name.to_ascii_uppercase()).cloned(),
            };
            if let Some(file) = file {
                let value = read_secret(&file).map_err(|problem| failure(format!("{file}: {problem}")))?;
                variables.insert(name.into(), value);
                from_files.insert(name.to_owned());
            }
        }
        for (name, value) in &manifest.env {
            if !is_set(&variables, name) {
                variables.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
            }
        }
        let mut environment = Self { variables, from_files };
        environment.settle_home(manifest);
        Ok(environment)
    }

    /// The same with these variables set, whatever they were.
    pub(crate) fn with(&self, pairs: &[(String, String)]) -> Self {
        let mut environment = self.clone();
        for (name, value) in pairs {
            environment.variables.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
            environment.from_files.remove(name);
        }
        environment
    }

    /// Gives `HOME` a value that makes sense. Container engines set it to `/` for users without an account, and to `/root`
    /// for root, which this program does not stay.
    fn settle_home(&mut self, manifest: &Manifest) {
        let given = self.get("HOME").is_some_and(|home| home != b"/" && home != b"/root");
        let Some(user) = manifest.user.as_ref().filter(|_| !given) else {
            return;
        };
        let is_there = file::status(&user.home).is_ok_and(|status| status.is_dir);
        let home = if is_there { user.home.as_str() } else { "/tmp" };
        self.variables.insert(b"HOME".to_vec(), home.as_bytes().to_vec());
    }

    /// The value of a variable, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// The value of a variable as text, unless it is empty.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let text = self.get(name).map(str::from_utf8).transpose();
        text.map_err(|_| Failure::Variable { name: name.to_owned(), problem: "the value is not UTF-8".to_owned() })
    }

    /// Whether the variable's value came from a file. Such values are never shown.
    pub(crate) fn is_from_file(&self, name: &str) -> bool {
        self.from_files.contains(name)
    }

    /// All variables, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.variables.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }
}

fn is_set(variables: &Variables, name: &str) -> bool {
    variables.get(name.as_bytes()).is_some_and(|value| !value.is_empty())
}

/// The files in the secrets directory, by the variable each is for. A directory that is not there has none.
fn mounted_secrets(dir: &str) -> BTreeMap<String, String> {
    let mut names: Vec<String> = file::names(dir).unwrap_or_default().into_iter().flat_map(String::from_utf8).collect();
    // Where two names mean one variable, the same one wins at every start.
    names.sort_unstable();
    let mut files = BTreeMap::new();
    for name in names.into_iter().filter(|name| !name.starts_with('.')) {
        files.entry(name.to_ascii_uppercase().replace(['-', '.'], "_")).or_insert_with(|| format!("{dir}/{name}"));
    }
    files
}

fn read_secret(path: &str) -> Result<Vec<u8>, String> {
    let content = file::read(path, MAX_SECRET_SIZE).map_err(|error| error.to_string())?;
    let mut bytes = content.ok_or_else(|| "the file is larger than 128 KiB".to_owned())?;
    if bytes.contains(&0) {
        return Err("the file holds a null character".to_owned());
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
