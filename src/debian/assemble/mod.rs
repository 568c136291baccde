//! Root filesystems: packages in, one deterministic layer out.
//!
//! Nothing from a package is run, and no file of the root filesystem touches a file system: packages are decoded into
//! a tree whose contents lie in nameless temporary files, what maintainer scripts would have written is added to it,
//! and it is written as a tar in the order of its paths. The bytes depend on the packages and options alone.

mod accounts;
mod alternatives;
mod certificates;
mod database;
mod elf;
mod error;
mod filter;
mod installed;
mod loader;
mod merge;
mod options;
mod path;
mod setup;
mod tree;
mod unpack;
mod write;

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use diag::progress::Task;

pub use error::AssembleError;
pub use filter::{Filter, FilterError};
pub use installed::{Installed, InstalledPackage};
pub use options::{BaseOptions, Database, User};

use crate::LockedPackage;
use tree::Tree;

/// Names this assembler in cache keys: it changes whenever equal packages would give other bytes.
pub const IDENTITY: &str = "debian assembler 2";

/// What a layer is made from.
#[derive(Clone, Copy, Debug)]
pub struct Assembly<'a> {
    /// The architecture of the root filesystem, by Debian's name.
    pub architecture: &'a str,
    /// The packages and where their `.deb` files lie. Their order does not matter.
    pub packages: &'a [(LockedPackage, PathBuf)],
    /// What the layers below have put in place, where there are any.
    pub below: Option<&'a Installed>,
    /// Everything that packages do not say.
    pub options: &'a BaseOptions,
    /// Seconds since 1970: no file of the layer is younger.
    pub epoch: i64,
    /// A directory for temporary files, of about the unpacked size. Nothing is left in it.
    pub spool: &'a Path,
    /// How many threads may decompress.
    pub threads: NonZeroUsize,
    /// Told about every package that has been unpacked.
    pub progress: Option<&'a Task>,
}

/// Writes a layer's tar to `out`, normally an [`oci::layer::compress::LayerWriter`]. Gives `out` back, and the record
/// that layers on top of this one need.
///
/// # Errors
/// [`AssembleError`]. What was written to `out` until then is no layer.
pub fn assemble<W: Write>(assembly: &Assembly<'_>, out: W) -> Result<(Installed, W), AssembleError> {
    let nothing = Installed::default();
    let below = assembly.below.unwrap_or(&nothing);
    let options = assembly.options;
    let mut packages = assembly.packages.to_vec();
    // base-files first: it says how the root's own directories are.
    packages.sort_by(|(a, _), (b, _)| (a.name != "base-files", a).cmp(&(b.name != "base-files", b)));
    refuse_present(&packages, below)?;
    let (unpacked, spools) =
        unpack::unpack(&packages, &options.filter, assembly.spool, assembly.threads, assembly.progress)?;

    let mut tree = Tree::new(below, &spools, assembly.epoch, options.merged_usr);
    merge::Merge::run(&mut tree, &unpacked)?;
    let mut installed = Installed {
        packages: below.packages.clone(),
        paths: BTreeMap::new(),
        texts: below.texts.clone(),
        libraries: below.libraries.clone(),
        alternatives: below.alternatives.clone(),
    };
    setup::set_up(&mut tree, options, &mut installed.texts)?;
    accounts::set_up(&mut tree, &options.users, &mut installed.texts)?;
    certificates::set_up(&mut tree)?;
    let scripts = unpacked.iter().filter_map(|package| package.control.files.get("postinst"));
    alternatives::set_up(&mut tree, scripts.map(Vec::as_slice), &mut installed.alternatives, options.database);
    loader::set_up(&mut tree, assembly.architecture, &mut installed.texts, &mut installed.libraries)?;
    for ((package, _), unpacked) in packages.into_iter().zip(&unpacked) {
        let status = database::status_paragraph(unpacked, options.database);
        installed.packages.push(InstalledPackage { package, status });
    }
    database::set_up(
        &mut tree,
        &unpacked,
        &installed.packages,
        assembly.architecture,
        options.database,
        &mut installed.texts,
    );
    tree.complete(options.merged_usr);
    if let Some((path, owner)) = tree.misplaced() {
        let package = owner.and_then(|at| installed.packages.get(below.packages.len() + at));
        return Err(AssembleError::Entry {
            package: package.map_or_else(|| "none".to_owned(), |installed| installed.package.to_string()),
            path: path.to_string(),
            what: "something inside what is no directory",
        });
    }
    installed.paths = tree.placed();
    let out = tree.write(out)?;
    Ok((installed, out))
}

/// Files of lower layers are not rewritten, so a package cannot be installed over itself.
fn refuse_present(packages: &[(LockedPackage, PathBuf)], below: &Installed) -> Result<(), AssembleError> {
    let clash = |package: &LockedPackage| {
        below.locked().find(|it| it.name == package.name && it.architecture == package.architecture).cloned()
    };
    match packages.iter().find_map(|(package, _)| clash(package).map(|present| (package, present))) {
        Some((package, present)) => {
            Err(AssembleError::Below { package: package.to_string(), present: present.to_string() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
