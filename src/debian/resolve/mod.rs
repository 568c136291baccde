//! From wanted packages to a closed set: dependencies, alternatives, virtual packages, conflicts.
//!
//! The solver does what apt does for a fresh system, without Recommends: every dependency that leaves no choice is
//! taken first, then the others in the order met, the first alternative that can be had. Where that runs into a
//! contradiction, the choice at fault is barred and the search begins again. Equal inputs give equal results.

mod error;
mod pool;
mod request;
mod solver;

use std::collections::BTreeSet;

pub use error::{Chain, Party, ResolveError, UnknownPackage};
pub use pool::Suite;
pub use request::{Baseline, Request, Wanted};

use crate::LockedPackage;
use pool::{PackageId, Pool};
use solver::{Failure, Solver};

/// How often the search may begin again. Debian's stable suites need it hardly ever.
const MAX_ATTEMPTS: u32 = 200;

/// The packages a request needs, those below left out, sorted by name and architecture.
///
/// # Errors
/// [`ResolveError`], told for the first contradiction met.
pub fn resolve(suites: &[Suite], request: &Request<'_>) -> Result<Vec<LockedPackage>, ResolveError> {
    let pool = Pool { suites, native: request.architecture };
    let mut attempts = MAX_ATTEMPTS;
    let chosen = search(pool, request, &mut BTreeSet::new(), &mut attempts)?;
    let mut locked: Vec<LockedPackage> = chosen.into_iter().map(|id| lock(pool, id)).collect();
    locked.sort();
    Ok(locked)
}

fn search(
    pool: Pool<'_>,
    request: &Request<'_>,
    barred: &mut BTreeSet<PackageId>,
    attempts: &mut u32,
) -> Result<Vec<PackageId>, ResolveError> {
    let Failure { error, culprits } = match Solver::new(pool, request, barred).run() {
        Ok(chosen) => return Ok(chosen),
        Err(failure) => failure,
    };
    for culprit in culprits {
        if *attempts == 0 {
            break;
        }
        *attempts -= 1;
        if barred.insert(culprit) {
            if let Ok(chosen) = search(pool, request, barred, attempts) {
                return Ok(chosen);
            }
            barred.remove(&culprit);
        }
    }
    Err(*error)
}

fn lock(pool: Pool<'_>, id: PackageId) -> LockedPackage {
    let package = pool.get(id);
    LockedPackage {
        name: package.name().to_owned(),
        version: package.version().to_owned(),
        architecture: package.architecture().to_owned(),
        suite: pool.suite(id).name.clone(),
        filename: package.filename().to_owned(),
        size: package.size(),
        sha256: package.sha256(),
        source: package.source().to_owned(),
    }
}

#[cfg(test)]
mod tests;
