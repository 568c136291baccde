//! Which Debian package brings a library, by the packages a recipe is locked to.

use std::collections::{BTreeMap, BTreeSet};

use debian::deb::{Deb, Limits};
use debian::{DebError, LockedPackage};
use plan::Requests;
use recipe::{Lock, Recipe};
use store::Store;

use super::image::LIBRARIES;
use crate::cli::Failure;
use crate::pipeline::debian_package;
use crate::workspace::Workspace;

/// The packages that bring these libraries, by library. Only packages that were fetched for the recipe, whatever for, are
/// looked into; a library that none of them has is not in the answer.
///
/// # Errors
/// The recipe's bases are not known.
pub(super) fn bringing(
    libraries: &BTreeSet<String>,
    recipe: &Recipe,
    workspace: &Workspace,
    lock: &Lock,
    store: &Store,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    if libraries.is_empty() {
        return Ok(found);
    }
    let requests = Requests::of(recipe, workspace.project()?)?;
    let sets = requests.debian.iter().filter_map(|request| lock.debian(request).ok());
    let mut packages: Vec<LockedPackage> = sets.flat_map(|set| &set.packages).map(debian_package).collect();
    // The name of a library's package usually begins as the library's does. The same set has one for each platform.
    let stem = |library: &String| library.split(".so").next().unwrap_or_default().to_owned();
    let stems: Vec<String> = libraries.iter().map(stem).collect();
    let is_likely = |package: &LockedPackage| stems.iter().any(|stem| package.name.starts_with(stem));
    packages.sort_by_cached_key(|package| (!is_likely(package), package.size, package.name.clone()));
    let mut seen = BTreeSet::new();
    for package in packages.iter().filter(|package| seen.insert(package.name.clone())) {
        if found.len() == libraries.len() {
            break;
        }
        // One that cannot be read brings nothing; building with it says what is wrong with it.
        let brought = brought(store, package).unwrap_or_default();
        for library in brought.intersection(libraries) {
            found.entry(library.clone()).or_insert_with(|| package.name.clone());
        }
    }
    Ok(found)
}

/// The names of the files a package has where libraries lie.
fn brought(store: &Store, package: &LockedPackage) -> Option<BTreeSet<String>> {
    let source = store.open_blob(&package.sha256).ok()?;
    let mut names = BTreeSet::new();
    let deb = Deb::open(source, Limits::default()).ok()?;
    let unpacked = deb.unpack(|entry, _| {
        names.extend(library(&String::from_utf8_lossy(&entry.path)));
        Ok::<(), DebError>(())
    });
    unpacked.ok().map(|_| names)
}

/// The name of a file, if it lies where the dynamic loader looks: in one of the usual directories, or an architecture's
/// directory in them.
fn library(path: &str) -> Option<String> {
    let (directory, name) = path.trim_start_matches('.').rsplit_once('/')?;
    let directory = format!("/{}", directory.trim_start_matches('/'));
    let usual = |place: &str| {
        directory.strip_prefix(place).is_some_and(|rest| {
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            rest.is_empty() || (rest.ends_with("-linux-gnu") && !rest.contains('/'))
        })
    };
    (name.contains(".so") && LIBRARIES.iter().any(|place| usual(place))).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_lie_where_the_loader_looks() {
        for path in ["./usr/lib/x86_64-linux-gnu/libssl.so.3", "lib/libssl.so.3", "/usr/lib64/libssl.so.3"] {
            assert_eq!(library(path).as_deref(), Some("libssl.so.3"), "{path}");
        }
        for path in ["usr/aarch64-linux-gnu/lib/libc.so.6", "usr/lib/x86_64-linux-gnu/engines-3/x.so", "usr/lib/x.a"] {
            assert_eq!(library(path), None, "{path}");
        }
    }
}
