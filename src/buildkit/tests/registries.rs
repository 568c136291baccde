//! Images and caches in registries.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

use buildkit::{BuildKit, BuildKitOptions};
use diag::progress::{Event, Outcome};
use engine::{CacheKind, CacheSpec, Engine, SolveRequest, SolvedImage};
use oci::{Descriptor, Digest, Index, media_type};
use registry::image::{Credential, Keychain};
use support::Registry;

use crate::Check;
use crate::node::Node;
use crate::site::{Site, buildkitd};

pub(crate) const CHECKS: &[Check] = &[
    ("a base in a registry keeps its layers", anonymous),
    ("a base in a registry that wants a token", token),
    ("a base in a registry that lets nobody in", refused),
    ("a cache in a registry is written and read", cache),
    ("a cache that cannot be read is a miss", missing_cache),
];

/// Pushes the base image; gives where it is.
pub(crate) fn push(site: &Site, registry: &Registry, name: &str) -> String {
    let base = site.path("base");
    let manifest = fs::read(base.join("blobs/sha256").join(site.base().hex())).unwrap();
    let descriptor = Descriptor::of(media_type::MANIFEST, &manifest);
    let index = Index::new(vec![descriptor]);
    fs::write(base.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    fs::write(base.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let repository = format!("{}/{name}", registry.address());
    let mut arguments = vec!["copy".to_owned(), "--preserve-digests".to_owned(), "--dest-tls-verify=false".to_owned()];
    if let Some(credentials) = registry.credentials() {
        arguments.push(format!("--dest-creds={}:{}", credentials.user, credentials.password));
    }
    arguments.extend([format!("oci:{}", base.display()), format!("docker://{repository}:latest")]);
    support::run("skopeo", &arguments);
    repository
}

fn keychain(registry: &Registry) -> Keychain {
    match registry.credentials() {
        None => Keychain::empty(),
        Some(credentials) => {
            let (user, password) = (credentials.user.clone(), credentials.password.clone().into());
            let credential = Credential::Password { user, password };
            Keychain::empty().with(registry.address(), credential)
        }
    }
}

/// Solves with a store that has nothing of the base.
fn solve(site: &Site, store: &str, repository: &str, keychain: Keychain) -> SolvedImage {
    let options = BuildKitOptions { threads: NonZeroUsize::MIN, keychain };
    let engine = BuildKit::new(Arc::new(buildkitd()), site.store(store), options);
    let request = SolveRequest { layouts: Default::default(), ..site.request(&format!("made-on {repository}")) };
    site.solve(&engine, request).image()
}

fn base_keeps_its_layers(registry: &Registry, name: &str) {
    let site = Site::new();
    let repository = push(&site, registry, name);
    let embedded = site.solve(&site.embedded(), site.request("made-on-base")).image();
    assert_eq!(embedded.layers.len(), 4);
    let first = solve(&site, "pulling", &repository, keychain(registry));
    assert_eq!(first, embedded);
    // What is known of the base is not asked for again, and the layers are whole.
    let again = solve(&site, "pulling", &repository, keychain(registry));
    assert_eq!(again, embedded);
    let store = site.store("pulling");
    for layer in &again.layers {
        assert_eq!(store.verify_blob(&layer.descriptor.digest).unwrap(), layer.descriptor.size);
    }
}

fn anonymous() {
    base_keeps_its_layers(&Registry::anonymous(), "builders/base");
}

fn token() {
    base_keeps_its_layers(&Registry::token(), "private/builders");
}

fn refused() {
    let site = Site::new();
    let registry = Registry::token();
    let repository = push(&site, &registry, "private/refused");
    let options = BuildKitOptions { threads: NonZeroUsize::MIN, keychain: Keychain::empty() };
    let engine = BuildKit::new(Arc::new(buildkitd()), site.store("refused"), options);
    let request = SolveRequest { layouts: Default::default(), ..site.request(&format!("made-on {repository}")) };
    let found = site.solve(&engine, request).diagnostic();
    assert_eq!(found.code.slug, "engine/builder", "{found:#?}");
    assert!(found.message.contains(&repository), "{found:#?}");
}

fn spec(kind: CacheKind, attributes: &[(&str, &str)]) -> CacheSpec {
    let attributes = attributes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    CacheSpec { kind, attributes: attributes.collect() }
}

fn cache() {
    let site = Site::new();
    let reference = format!(
        "{}/builders/cache:{}",
        Registry::anonymous().address(),
        Digest::of(site.path("x").as_os_str().as_encoded_bytes()).hex()
    );
    let attributes = [("ref", reference.as_str()), ("mode", "max"), ("oci-mediatypes", "true")];
    let config = site.path("node.toml");
    fs::write(&config, format!("[registry.{:?}]\nhttp = true\n", Registry::anonymous().address())).unwrap();
    let solve = |name: &str| {
        let directory = site.path(name);
        fs::create_dir(&directory).unwrap();
        let node = Node::start_with(&directory, &directory.join("root"), &config);
        let engine = site.buildkit_at(Arc::new(node.dial()));
        let specs = vec![spec(CacheKind::Registry, &attributes)];
        let request = SolveRequest { cache_from: specs.clone(), cache_to: specs, ..site.request("app") };
        site.solve(&engine as &dyn Engine, request)
    };
    let first = solve("one");
    assert!(first.ended().contains(&("build".to_owned(), Outcome::Done)), "{:?}", first.ended());
    // Another builder, which knows nothing itself.
    let second = solve("two");
    assert!(second.ended().contains(&("build".to_owned(), Outcome::Cached)), "{:?}", second.ended());
    assert_eq!(first.image(), second.image());
}

fn missing_cache() {
    let site = Site::new();
    let reference = format!("{}/builders/no-such-cache:latest", Registry::anonymous().address());
    let nowhere = site.path("nowhere");
    let request = SolveRequest {
        cache_from: vec![
            spec(CacheKind::Registry, &[("ref", &reference)]),
            spec(CacheKind::Local, &[("src", nowhere.to_str().unwrap())]),
        ],
        ..site.request("app")
    };
    let solution = site.solve(&site.buildkit(), request);
    let warnings: Vec<&str> = solution
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Warning { message, .. } => Some(message.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    solution.image();
}
