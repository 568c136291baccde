//! Pushing to and pulling from docker-registry, also through a proxy that breaks things, and skopeo's opinion of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use diag::{Reported as _, codes};
use oci::{Descriptor, Platform, Repository, Tag};
use registry::image::{Credential, ImageError, ImageSettings, Images, Keychain, Push, PushReceipt};

use crate::fixture::{World, digest, noise, quiet};
use crate::scripted::{Reply, Server};
use crate::tools::Tool;

/// A docker-registry of this test's own.
pub(crate) struct DockerRegistry {
    process: Child,
    address: String,
    _directory: tempfile::TempDir,
}

/// Who may use it.
pub(crate) enum Access<'a> {
    Everyone,
    /// `me` with the password `hunter2:x`.
    Me,
    /// Everyone, over TLS with this certificate and key.
    Tls(&'a Path, &'a Path),
}

/// bcrypt of `hunter2:x`.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuuy88LgePK/ZbJBcATi08OdOuOwdtkCMa\n";

impl DockerRegistry {
    /// Starts one; `None` where it is not installed.
    pub(crate) fn start(access: &Access<'_>) -> Option<Self> {
        let program = Tool::Registry.find()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().display();
        let auth = match access {
            Access::Me => {
                fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("writes");
                format!("auth:\n  htpasswd:\n    realm: test\n    path: {root}/htpasswd\n")
            }
            Access::Everyone | Access::Tls(..) => String::new(),
        };
        let tls = match access {
            Access::Tls(certificate, key) => {
                format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display())
            }
            Access::Everyone | Access::Me => String::new(),
        };
        // A port can be taken between being found and being used.
        for _ in 0..5 {
            let address = free_address();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n  delete:\n    enabled: true\n\
                 {auth}http:\n  addr: {address}\n  relativeurls: true\n{tls}"
            );
            fs::write(directory.path().join("config.yml"), config).expect("writes");
            let log = fs::File::create(directory.path().join("log")).expect("creates");
            let mut process = Command::new(&program)
                .arg("serve")
                .arg(directory.path().join("config.yml"))
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("docker-registry starts");
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(20) {
                if std::net::TcpStream::connect(&address).is_ok() {
                    return Some(Self { process, address, _directory: directory });
                }
                if process.try_wait().expect("waits").is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            process.kill().ok();
            process.wait().expect("waits");
        }
        panic!("docker-registry does not listen: {:?}", fs::read_to_string(directory.path().join("log")));
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        repository(&self.address, path)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").to_string()
}

fn repository(address: &str, path: &str) -> Repository {
    format!("{address}/{path}").parse().expect("a repository")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

async fn push(images: &Images, image: &Descriptor, to: &Repository, tags: &[&str]) -> Result<PushReceipt, ImageError> {
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    let push = Push { image, repository: to, tags: &tags, fixed_tags: &[], mount_from: &[] };
    images.push(&push, &quiet()).await
}

/// Pulls into a store of its own and compares every blob.
async fn same_after_pull(world: &World, keychain: &Keychain, image: &Descriptor, from: &Repository, name: &str) {
    let other = World::new();
    let images = other.images(keychain.clone());
    let pulled = images.pull(&from.with_tag(tag(name)), Platform::LINUX_AMD64, &quiet()).await.expect("pulls");
    assert_eq!((pulled.root.digest, &pulled.root.media_type), (image.digest, &image.media_type));
    for blob in pulled.content.layers.iter().chain([&pulled.content.config, &pulled.manifest]) {
        let ours = world.store.read_blob(&blob.digest).expect("reads");
        assert_eq!(other.store.read_blob(&blob.digest).expect("reads"), ours);
    }
}

fn skopeo(arguments: &[&str]) -> Option<Output> {
    let program = Tool::Skopeo.find()?;
    let output = Command::new(program).args(arguments).output().expect("skopeo runs");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

#[tokio::test]
async fn what_is_pushed_is_what_others_read() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let images = world.images(Keychain::empty());
    let image = world.image(1, &[400_000, 1, 50_000]);
    let to = registry.repository("team/app");
    let receipt = push(&images, &image, &to, &["1.2.3", "latest"]).await.expect("pushes");
    assert_eq!(receipt.reference, to.with_digest(image.digest));
    assert_eq!((receipt.uploaded.count, receipt.skipped.count, receipt.mounted.count), (5, 0, 0));
    for name in ["1.2.3", "latest"] {
        same_after_pull(&world, &Keychain::empty(), &image, &to, name).await;
    }
    let name = format!("docker://{to}:latest");
    if let Some(output) = skopeo(&["inspect", "--tls-verify=false", "--raw", &name]) {
        assert_eq!(digest(&output.stdout), image.digest);
    }

    let again = push(&images, &image, &to, &["1.2.3", "1.2"]).await.expect("pushes");
    assert_eq!((again.uploaded.count, again.skipped.count), (0, 5));
    let found = images.resolve(&to.with_tag(tag("1.2"))).await.expect("resolves");
    assert_eq!((found.digest, found.size), (image.digest, image.size));

    // One more layer: only that, the config and the manifest travel.
    let larger = world.image(1, &[400_000, 1, 50_000, 7000]);
    let receipt = push(&images, &larger, &to, &["latest"]).await.expect("pushes");
    assert_eq!((receipt.uploaded.count, receipt.skipped.count), (3, 3));
    same_after_pull(&world, &Keychain::empty(), &larger, &to, "latest").await;
}

#[tokio::test]
async fn an_index_arrives_with_all_its_images() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let (images, index) = (world.images(Keychain::empty()), world.index(20));
    let to = registry.repository("multi");
    let receipt = push(&images, &index, &to, &["v1"]).await.expect("pushes");
    assert_eq!(receipt.uploaded.count, 2 * 4 + 1);
    same_after_pull(&world, &Keychain::empty(), &index, &to, "v1").await;
    let layout = tempfile::tempdir().expect("a temporary directory");
    let (from, into) = (format!("docker://{to}:v1"), format!("oci:{}:v1", layout.path().display()));
    if skopeo(&["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &into]).is_some() {
        let copied = fs::read(layout.path().join("blobs/sha256").join(index.digest.hex())).expect("skopeo copied it");
        assert_eq!(digest(&copied), index.digest);
        // And back again in Docker's media types, which are pulled as well.
        let docker = format!("docker://{}:v1", registry.repository("docker"));
        let copy = ["copy", "--format=v2s2", "--override-arch=amd64", "--dest-tls-verify=false", &into, &docker];
        skopeo(&copy).expect("skopeo is there");
        let other = World::new();
        let reference = registry.repository("docker").with_tag(tag("v1"));
        let pulled = other.images(Keychain::empty()).pull(&reference, Platform::LINUX_AMD64, &quiet()).await;
        let pulled = pulled.expect("pulls Docker's types");
        assert_eq!(pulled.manifest.media_type, oci::media_type::DOCKER_MANIFEST);
        assert_eq!(pulled.content.layers.len(), 2);
    }
}

#[tokio::test]
async fn a_registry_with_passwords_lets_in_who_knows_one() {
    let Some(registry) = DockerRegistry::start(&Access::Me) else { return };
    let world = World::new();
    let image = world.image(2, &[1000]);
    let to = registry.repository("private/app");
    let error = push(&world.images(Keychain::empty()), &image, &to, &["1"]).await.expect_err("anonymous");
    assert_eq!(error.diagnostic().code, codes::registry::UNAUTHORIZED);

    let me = |password: &str| {
        let credential = Credential::Password { user: "me".to_owned(), password: password.into() };
        Keychain::empty().with(registry.address(), credential)
    };
    let error = push(&world.images(me("wrong")), &image, &to, &["1"]).await.expect_err("a wrong password");
    assert!(matches!(error, ImageError::Unauthorized { refused: true, .. }), "{error:?}");
    push(&world.images(me("hunter2:x")), &image, &to, &["1"]).await.expect("pushes");

    // As `docker login` leaves it.
    let home = tempfile::tempdir().expect("a temporary directory");
    let entry = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "me:hunter2:x");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{entry}"}}}}}}"#, registry.address());
    fs::write(home.path().join("config.json"), config).expect("writes");
    let keychain =
        Keychain::from_environment(|name| (name == "DOCKER_CONFIG").then(|| home.path().as_os_str().to_owned()));
    same_after_pull(&world, &keychain, &image, &to, "1").await;

    let torn = home.path().join("torn.json");
    fs::write(&torn, "{").expect("writes");
    let keychain =
        Keychain::from_environment(|name| (name == "REGISTRY_AUTH_FILE").then(|| torn.as_os_str().to_owned()));
    let error = push(&world.images(keychain), &image, &to, &["1"]).await.expect_err("a torn file");
    let diagnostic = error.diagnostic();
    assert!(diagnostic.causes.iter().any(|cause| cause.contains("torn.json")), "{diagnostic:?}");
}

#[tokio::test]
async fn blobs_of_other_repositories_are_mounted() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let images = world.images(Keychain::empty());
    let (base, app) = (world.image(3, &[300_000]), world.image(3, &[300_000, 2000]));
    let (from, to) = (registry.repository("base"), registry.repository("app"));
    push(&images, &base, &from, &["1"]).await.expect("pushes");
    let elsewhere: Repository = "ghcr.io/another/registry".parse().expect("a repository");
    let mount_from = [elsewhere, registry.repository("nothing/here"), from];
    let tags = [tag("1")];
    let all = Push { image: &app, repository: &to, tags: &tags, fixed_tags: &[], mount_from: &mount_from };
    let receipt = images.push(&all, &quiet()).await.expect("pushes");
    assert_eq!((receipt.mounted.count, receipt.mounted.bytes, receipt.uploaded.count), (1, 300_000, 3));
    same_after_pull(&world, &Keychain::empty(), &app, &to, "1").await;
}

#[tokio::test]
async fn a_published_version_does_not_change() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let images = world.images(Keychain::empty());
    let (first, second) = (world.image(4, &[1000]), world.image(5, &[1000]));
    let to = registry.repository("app");
    let (latest, version) = ([tag("latest")], [tag("1.0.0")]);
    let release = |image| Push { image, repository: &to, tags: &latest, fixed_tags: &version, mount_from: &[] };
    images.push(&release(&first), &quiet()).await.expect("pushes");
    images.push(&release(&first), &quiet()).await.expect("the same again is no change");
    let error = images.push(&release(&second), &quiet()).await.expect_err("another image");
    assert_eq!(error.diagnostic().code, codes::registry::TAG_TAKEN);
    let latest = images.resolve(&to.with_tag(tag("latest"))).await.expect("resolves");
    assert_eq!(latest.digest, first.digest, "nothing has moved");
}

#[tokio::test]
async fn a_push_gets_over_what_breaks_on_the_way() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let upstream = registry.address().to_owned();
    // Of every kind of request the first two fail, each in its own way.
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    let proxy = Server::start(move |request, _| {
        let kind = match request.target.as_str() {
            target if target.contains("/manifests/") => format!("{} manifest", request.method),
            target if target.contains("/blobs/uploads") => format!("{} upload", request.method),
            _ => format!("{} other", request.method),
        };
        let mut seen = seen.lock().expect("no panic");
        let count = seen.entry(kind.clone()).or_default();
        *count += 1;
        match (kind.as_str(), *count) {
            ("PUT upload", 1) => Reply::Close,
            // It arrived, and nobody heard so.
            ("PUT upload" | "PUT manifest", 2) => Reply::ForwardAndClose(upstream.clone()),
            (_, 1) => Reply::status(499),
            (_, 2) => Reply::status(429).with("retry-after", "0"),
            _ => Reply::Forward(upstream.clone()),
        }
    })
    .await;
    let world = World::new();
    let image = world.image(6, &[200_000, 300_000]);
    let to = repository(proxy.address(), "app");
    push(&world.images(Keychain::empty()), &image, &to, &["1"]).await.expect("pushes");
    same_after_pull(&world, &Keychain::empty(), &image, &registry.repository("app"), "1").await;
}

#[tokio::test]
async fn pieces_that_are_lost_are_sent_again() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let upstream = registry.address().to_owned();
    let patches = std::sync::atomic::AtomicU32::new(0);
    let proxy = Server::start(move |request, _| {
        if request.method != "PATCH" {
            return Reply::Forward(upstream.clone());
        }
        match patches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => Reply::Close,
            4 => Reply::status(504),
            // It arrived, and nobody heard so. docker-registry does not go on from there, so the blob is begun anew.
            20 => Reply::ForwardAndClose(upstream.clone()),
            _ => Reply::Forward(upstream.clone()),
        }
    })
    .await;
    let world = World::new();
    let image = world.image(7, &[1_000_000]);
    let settings = ImageSettings { chunk: std::num::NonZeroU64::new(150_000), ..ImageSettings::default() };
    let images = world.images_with(settings);
    let sent = || {
        let patches = proxy.requests().into_iter().filter(|request| request.method == "PATCH");
        patches
            .map(|request| (request.header("content-range").map(str::to_owned), request.body.len()))
            .collect::<Vec<_>>()
    };
    push(&images, &image, &repository(proxy.address(), "one"), &["1"]).await.expect("pushes");
    same_after_pull(&world, &Keychain::empty(), &image, &registry.repository("one"), "1").await;
    let pieces = sent();
    assert_eq!(pieces[0], (Some("0-149999".to_owned()), 150_000));
    assert_eq!(pieces[1], pieces[2], "the lost piece again");
    assert_eq!((pieces.len(), pieces.last().map(|piece| piece.1)), (9, Some(100_000)));

    for seed in [11, 12] {
        let image = world.image(seed, &[1_000_000]);
        push(&images, &image, &repository(proxy.address(), "two"), &["1"]).await.expect("pushes");
        same_after_pull(&world, &Keychain::empty(), &image, &registry.repository("two"), "1").await;
    }
    assert!(sent().len() > 9 + 7 + 7, "the one nobody heard of has come by");
}

#[tokio::test]
async fn a_registry_that_takes_no_large_bodies_gets_small_ones() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let upstream = registry.address().to_owned();
    let proxy = Server::start(move |request, _| {
        if request.body.len() > 2_500_000 { Reply::status(413) } else { Reply::Forward(upstream.clone()) }
    })
    .await;
    let world = World::new();
    let image = world.image(8, &[9_000_000, 1000]);
    let to = repository(proxy.address(), "app");
    push(&world.images(Keychain::empty()), &image, &to, &["1"]).await.expect("pushes");
    same_after_pull(&world, &Keychain::empty(), &image, &registry.repository("app"), "1").await;
}

#[tokio::test]
async fn a_push_that_is_cut_off_goes_on_where_it_was() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let image = world.image(9, &[800_000; 8]);
    let to = registry.repository("app");
    let mut uploaded = u64::MAX;
    for patience in [5, 15, 40] {
        let images = world.images(Keychain::empty());
        let cut = tokio::time::timeout(Duration::from_millis(patience), push(&images, &image, &to, &["1"])).await;
        if cut.is_err() {
            let found = images.resolve(&to.with_tag(tag("1"))).await;
            assert!(matches!(found, Err(ImageError::NotFound(_))), "a tag before its image: {found:?}");
        }
    }
    for _ in 0..2 {
        let receipt = push(&world.images(Keychain::empty()), &image, &to, &["1"]).await.expect("pushes");
        assert_eq!(receipt.uploaded.count + receipt.skipped.count, 10);
        assert!(receipt.uploaded.bytes <= uploaded);
        uploaded = receipt.uploaded.bytes;
    }
    assert_eq!(uploaded, 0);
    same_after_pull(&world, &Keychain::empty(), &image, &to, "1").await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(registry) = DockerRegistry::start(&Access::Everyone) else { return };
    let world = World::new();
    let image = world.image(10, &[5000]);
    let upstream = registry.address().to_owned();
    let proxy = Server::start(move |request, _| {
        let document = |text: &str| Reply::Answer { status: 403, headers: Vec::new(), body: text.as_bytes().to_vec() };
        match request.target.as_str() {
            target if target.contains("/denied/") && request.method == "POST" => {
                document(r#"{"errors":[{"code":"DENIED","message":"permission_denied: write_package"}]}"#)
            }
            target if target.contains("/liar/manifests/sha256") && request.method == "PUT" => {
                Reply::status(201).with("docker-content-digest", digest(b"other").to_string())
            }
            _ => Reply::Forward(upstream.clone()),
        }
    })
    .await;
    let images = world.images(Keychain::empty());
    let error = push(&images, &image, &repository(proxy.address(), "denied/app"), &["1"]).await.expect_err("denied");
    assert_eq!(error.diagnostic().code, codes::registry::DENIED);
    assert!(error.to_string().contains("write_package"), "{error}");
    let error = push(&images, &image, &repository(proxy.address(), "liar"), &["1"]).await.expect_err("another digest");
    assert_eq!(error.diagnostic().code, codes::registry::MISMATCH);
    let found = images.resolve(&registry.repository("liar").with_tag(tag("1"))).await;
    assert!(matches!(found, Err(ImageError::NotFound(_))), "no tag for what is not verified");

    // A layer that rotted in the store is the store's fault, and is said to be.
    let layer = noise(10_001, 5000);
    let path = world.store.blob_path(&digest(&layer));
    fs::remove_file(&path).expect("removes");
    fs::write(&path, noise(1, 5000)).expect("writes");
    let error = push(&images, &image, &registry.repository("rotten"), &["1"]).await.expect_err("a rotten layer");
    assert_eq!(error.diagnostic().code, codes::store::MISMATCH, "{error:?}");

    let nobody = repository(&free_address(), "app");
    let error = push(&images, &image, &nobody, &["1"]).await.expect_err("nobody listens");
    assert_eq!(error.diagnostic().code, codes::registry::UNREACHABLE);
}
