//! The variables children get: what the container was started with, secrets from files, and the manifest's defaults.
//!
//! For a variable an override declares, the first that is there and not empty counts: the variable itself; the file
//! `NAME_FILE` names; a file in the secrets directory named like the variable, in any case, with `-` or `.` for `_`; the
//! manifest's default. Only declared variables are looked for in files: `SSL_CERT_FILE` is a path, not a secret's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::manifest::Manifest;

/// How large a secret may be, in bytes. The kernel takes no longer variables than 128 KiB.
const MAX_SECRET_SIZE: u64 = 128 << 10;

/// Variables and their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The variables whose values came from files.
    from_files: BTreeSet<String>,
}

impl Environment {
    /// Puts together what `given` and files and the manifest say.
    ///
    /// # Errors
    /// A file that is named for a variable cannot be read, or holds what no variable can.
    pub(crate) fn gather(
        manifest: &Manifest,
        given: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Failure> {
        let mut variables: BTreeMap<OsString, OsString> = given.collect();
        let mut from_files = BTreeSet::new();
        let mounted = mounted_secrets(&manifest.secrets_dir);
        for entry in manifest.overrides() {
            let name = entry.env.as_str();
            if is_set(&variables, name) {
                continue;
            }
            let pointer = format!("{name}_FILE");
            let file = match variables.remove(OsStr::new(&pointer)).filter(|path| !path.is_empty()) {
                Some(path) => Some(PathBuf::from(path)),
                None => mounted.get(&name.to_ascii_uppercase()).cloned(),
            };
            if let Some(file) = file {
                let value = read_secret(&file).map_err(|problem| Failure::Variable {
                    name: name.to_owned(),
                    problem: format!("{}: {problem}", file.display()),
                })?;
                variables.insert(name.into(), value);
                from_files.insert(name.to_owned());
            }
        }
        for (name, value) in &manifest.env {
            if !is_set(&variables, name) {
                variables.insert(name.into(), value.into());
            }
        }
        let mut environment = Self { variables, from_files };
        environment.settle_home(manifest);
        Ok(environment)
    }

    /// Gives `HOME` a value that makes sense. Container engines set it to `/` for users without an account.
    fn settle_home(&mut self, manifest: &Manifest) {
        let given = self.variables.get(OsStr::new("HOME")).is_some_and(|home| !home.is_empty() && home != "/");
        let Some(user) = manifest.user.as_ref().filter(|_| !given) else {
            return;
        };
        let home = if user.home.is_dir() { user.home.clone() } else { PathBuf::from("/tmp") };
        self.variables.insert("HOME".into(), home.into());
    }

    /// The value of a variable, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Whether the variable's value came from a file. Such values are never shown.
    pub(crate) fn is_from_file(&self, name: &str) -> bool {
        self.from_files.contains(name)
    }

    /// All variables, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }
}

fn is_set(variables: &BTreeMap<OsString, OsString>, name: &str) -> bool {
    variables.get(OsStr::new(name)).is_some_and(|value| !value.is_empty())
}

/// The files in the secrets directory, by the variable each is for. A directory that is not there has none.
fn mounted_secrets(dir: &Path) -> BTreeMap<String, PathBuf> {
    let mut names: Vec<OsString> =
        fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect();
    // Where two names mean one variable, the same one wins at every start.
    names.sort_unstable();
    let mut files = BTreeMap::new();
    for name in names {
        if let Some(text) = name.to_str().filter(|text| !text.starts_with('.')) {
            files.entry(text.to_ascii_uppercase().replace(['-', '.'], "_")).or_insert_with(|| dir.join(&name));
        }
    }
    files
}

fn read_secret(path: &Path) -> Result<OsString, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SECRET_SIZE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SECRET_SIZE) {
        return Err("the file is larger than 128 KiB".to_owned());
    }
    if bytes.contains(&0) {
        return Err("the file holds a null character".to_owned());
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(OsString::from_vec(bytes))
}

/// The value as text.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn text<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, Failure> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| Failure::Variable { name: name.to_owned(), problem: "the value is not UTF-8".to_owned() })
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
