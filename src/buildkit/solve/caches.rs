//! Caches that several machines share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diag::progress::{Event, Progress};
use engine::{CacheKind, CacheSpec, SolveRequest};
use oci::Descriptor;

use crate::session::LocalCache;

/// What a builder says of the cache it wrote. Source: BuildKit `cache/remotecache`.
const CACHE_MANIFEST: &str = "cache.manifest";

/// The caches to look into, as the builder is told of them. Those that cannot be read are left out, with a warning:
/// there nothing would be found.
pub(super) fn imports(specs: &[CacheSpec], progress: &Progress) -> Vec<CacheSpec> {
    specs.iter().filter_map(|spec| import(spec).unwrap_or_else(|why| warn(progress, &why))).collect()
}

fn import(spec: &CacheSpec) -> Result<Option<CacheSpec>, String> {
    let mut spec = spec.clone();
    match spec.kind {
        CacheKind::Local if !spec.attributes.contains_key("digest") => {
            let Some(directory) = spec.attributes.get("src").cloned() else {
                return Err("a local cache is not read: it has no `src`".to_owned());
            };
            let found = LocalCache::new(Path::new(&directory)).find(tag_of(&spec));
            match found.map_err(|error| format!("the cache in `{directory}` is not read: {error}"))? {
                Some(digest) => _ = spec.attributes.insert("digest".to_owned(), digest.to_string()),
                None => return Err(format!("the cache in `{directory}` is not read: there is none yet")),
            }
        }
        CacheKind::Local | CacheKind::Registry | CacheKind::Gha => {}
    }
    Ok(Some(spec))
}

/// The caches to fill, as the builder is told of them.
pub(super) fn exports(specs: &[CacheSpec]) -> Vec<CacheSpec> {
    let export = |spec: &CacheSpec| {
        let mut spec = spec.clone();
        if !spec.attributes.contains_key("compression") {
            // The builder's own layers are not compressed, for they only go to this machine.
            for (key, value) in [("compression", "zstd"), ("force-compression", "true")] {
                spec.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
        spec
    };
    specs.iter().map(export).collect()
}

/// Names the caches in directories that the builder has filled. Gives warnings.
pub(super) fn tag(specs: &[CacheSpec], response: &BTreeMap<String, String>) -> Vec<String> {
    let Some(manifest) = response.get(CACHE_MANIFEST) else { return Vec::new() };
    let local = specs.iter().filter(|spec| spec.kind == CacheKind::Local);
    let write = |spec: &CacheSpec| {
        let directory = spec.attributes.get("dest")?;
        let written = serde_json::from_str::<Descriptor>(manifest)
            .map_err(std::io::Error::from)
            .and_then(|manifest| LocalCache::new(Path::new(directory)).tag(tag_of(spec), &manifest));
        written.err().map(|error| format!("the cache in `{directory}` has no name and will not be found: {error}"))
    };
    local.filter_map(write).collect()
}

/// The directories that a request's caches lie in.
pub(super) fn directories(request: &SolveRequest) -> Vec<PathBuf> {
    let of = |specs: &[CacheSpec], key: &str| -> Vec<PathBuf> {
        let local = specs.iter().filter(|spec| spec.kind == CacheKind::Local);
        local.filter_map(|spec| spec.attributes.get(key)).map(PathBuf::from).collect()
    };
    let mut directories = of(&request.cache_from, "src");
    directories.extend(of(&request.cache_to, "dest"));
    directories.sort();
    directories.dedup();
    directories
}

fn tag_of(spec: &CacheSpec) -> &str {
    spec.attributes.get("tag").map_or(LocalCache::DEFAULT_TAG, String::as_str)
}

fn warn(progress: &Progress, why: &str) -> Option<CacheSpec> {
    progress.emit(Event::Warning { task: None, message: why.to_owned() });
    None
}
