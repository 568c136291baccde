//! Pulling, against a scripted registry: tokens, refusals, wrong content.

use diag::{Reported as _, codes};
use oci::{Document as _, ImageConfig, Manifest, Platform, Reference, RootFs, media_type};
use registry::http::{Http, HttpSettings};
use registry::image::{Credential, ImageError, Images, Keychain};

use crate::fixture::{World, digest, noise, quiet, settings};
use crate::scripted::{Reply, Request, Server};

/// An image as a registry has it.
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let layer = noise(7, 70_000);
        let platform = Platform::LINUX_AMD64;
        let config = ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            config: oci::ContainerConfig::default(),
            rootfs: RootFs::new(vec![oci::DiffId(digest(&layer))]),
            history: Vec::new(),
        }
        .to_bytes();
        let layers = vec![oci::Descriptor::of(media_type::DOCKER_LAYER_GZIP, &layer)];
        let manifest = Manifest::new(oci::Descriptor::of(media_type::DOCKER_CONFIG, &config), layers).to_bytes();
        Self { layer, config, manifest }
    }

    /// What a registry without any access control says.
    fn serve(&self, request: &Request) -> Reply {
        let Some(path) = request.target.strip_prefix("/v2/") else { return Reply::status(404) };
        let manifest = |bytes: &[u8]| {
            Reply::ok(bytes)
                .with("content-type", media_type::MANIFEST)
                .with("docker-content-digest", digest(bytes).to_string())
                .with("content-length", bytes.len().to_string())
        };
        match path {
            "" => Reply::ok("{}"),
            "o/app/manifests/1" => manifest(&self.manifest),
            path if path == format!("o/app/manifests/{}", digest(&self.manifest)) => manifest(&self.manifest),
            path if path == format!("o/app/blobs/{}", digest(&self.layer)) => Reply::ok(&self.layer[..]),
            path if path == format!("o/app/blobs/{}", digest(&self.config)) => Reply::ok(&self.config[..]),
            _ => Reply::status(404),
        }
    }
}

fn reference(server: &Server, rest: &str) -> Reference {
    format!("{}/o/app{rest}", server.address()).parse().expect("a reference")
}

fn known(server: &Server, user: &str) -> Keychain {
    let credential = Credential::Password { user: user.to_owned(), password: "pw".into() };
    Keychain::empty().with(server.address(), credential)
}

async fn pull(images: &Images, reference: &Reference) -> Result<oci::Digest, ImageError> {
    images.pull(reference, Platform::LINUX_AMD64, &quiet()).await.map(|pulled| pulled.manifest.digest)
}

/// A registry that wants tokens, and its token server under `/token`. `me:pw` is known; anonymous tokens are given
/// where `anonymous` says so. Every third use of a token it has expired.
async fn with_tokens(anonymous: bool) -> Server {
    let image = Image::new();
    let uses = std::sync::atomic::AtomicU32::new(0);
    Server::start(move |request, _| {
        let host = request.header("host").expect("every request names its host");
        if let Some(query) = request.target.strip_prefix("/token?") {
            assert_eq!(query, "service=scripted&scope=repository%3Ao%2Fapp%3Apull");
            // base64 of me:pw
            return match request.header("authorization") {
                Some("Basic bWU6cHc=") => Reply::ok(r#"{"token":"abc"}"#),
                None if anonymous => Reply::ok(r#"{"access_token":"abc","expires_in":300}"#),
                _ => Reply::status(401),
            };
        }
        let fresh = uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 != 2;
        if request.header("authorization") == Some("Bearer abc") && fresh {
            return image.serve(request);
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="scripted""#);
        Reply::status(401).with("www-authenticate", challenge)
    })
    .await
}

#[tokio::test]
async fn tokens_are_fetched_renewed_and_kept_from_others() {
    let (world, server) = (World::new(), with_tokens(false).await);
    let image = Image::new();
    let found = pull(&world.images(known(&server, "me")), &reference(&server, ":1")).await.expect("pulls");
    assert_eq!(found, digest(&image.manifest));
    for blob in [&image.layer, &image.config, &image.manifest] {
        assert_eq!(world.store.read_blob(&digest(blob)).expect("reads"), *blob);
    }
    for request in server.requests() {
        let password = request.header("authorization").is_some_and(|it| it.starts_with("Basic"));
        assert_eq!(password, request.target.starts_with("/token"), "the password is for the token server alone");
    }
}

#[tokio::test]
async fn a_registry_that_wants_to_know_who_asks_says_so() {
    let server = with_tokens(false).await;
    let world = World::new();
    let error = pull(&world.images(Keychain::empty()), &reference(&server, ":1")).await.expect_err("anonymous");
    assert_eq!(error.diagnostic().code, codes::registry::UNAUTHORIZED);
    assert!(error.to_string().contains("anonymous"), "{error}");
    assert!(error.diagnostic().help.iter().any(|help| help.contains("docker login")));

    let error = pull(&world.images(known(&server, "you")), &reference(&server, ":1")).await.expect_err("a stranger");
    assert!(matches!(&error, ImageError::Unauthorized { refused: true, .. }), "{error:?}");
    assert!(!format!("{error:?} {:?}", error.diagnostic()).contains("pw"));
}

#[tokio::test]
async fn refused_credentials_do_not_bar_what_everyone_may_read() {
    let (world, server) = (World::new(), with_tokens(true).await);
    pull(&world.images(known(&server, "you")), &reference(&server, ":1")).await.expect("pulls anonymously");
}

#[tokio::test]
async fn what_is_there_is_not_fetched_even_offline() {
    let (world, image) = (World::new(), Image::new());
    let server = Server::start(move |request, _| image.serve(request)).await;
    let tagged = world.images(Keychain::empty()).resolve(&reference(&server, ":1")).await.expect("resolves");
    assert_eq!(tagged.size, Image::new().manifest.len() as u64);
    let by_digest = reference(&server, &format!("@{}", tagged.digest));
    pull(&world.images(Keychain::empty()), &by_digest).await.expect("pulls");
    let before = server.requests().len();
    let offline = Http::new(HttpSettings { offline: true, ..settings() });
    let images = Images::new(world.downloader_over(offline), registry::image::ImageSettings::default());
    assert_eq!(pull(&images, &by_digest).await.expect("stored"), tagged.digest);
    assert_eq!(server.requests().len(), before);
    let error = pull(&images, &reference(&server, ":1")).await.expect_err("a tag may have moved");
    assert_eq!(error.diagnostic().code, codes::registry::OFFLINE);
}

#[tokio::test]
async fn wrong_content_is_never_taken() {
    // A manifest by digest that is another one, and a blob that is.
    let world = World::new();
    let image = Image::new();
    let layer = digest(&image.layer);
    let server = Server::start(move |request, _| {
        if request.target.contains("/manifests/sha256:") {
            return Reply::ok(&image.manifest[..]).with("content-type", media_type::MANIFEST);
        }
        if request.target.ends_with(&layer.to_string()) {
            return Reply::ok(noise(8, 70_000));
        }
        image.serve(request)
    })
    .await;
    let images = world.images(Keychain::empty());
    let wanted = reference(&server, &format!("@{}", digest(b"wanted")));
    let error = pull(&images, &wanted).await.expect_err("another manifest");
    assert_eq!(error.diagnostic().code, codes::registry::MISMATCH, "{error:?}");
    let error = pull(&images, &reference(&server, ":1")).await.expect_err("another layer");
    assert_eq!(error.diagnostic().code, codes::registry::MISMATCH, "{error:?}");
    assert_eq!(world.store.blob_size(&layer), None);
    assert_eq!(world.half_written(), 0);
}

#[tokio::test]
async fn a_registry_without_head_or_digests_is_understood() {
    let (world, image) = (World::new(), Image::new());
    let expected = digest(&image.manifest);
    let server = Server::start(move |request, _| match (request.method.as_str(), image.serve(request)) {
        ("HEAD", _) => Reply::status(405),
        (_, Reply::Answer { status, body, .. }) => Reply::Answer { status, headers: Vec::new(), body },
        (_, reply) => reply,
    })
    .await;
    let found = world.images(Keychain::empty()).resolve(&reference(&server, ":1")).await.expect("resolves");
    assert_eq!((found.digest, found.media_type.as_str()), (expected, media_type::MANIFEST));
    assert_eq!(pull(&world.images(Keychain::empty()), &reference(&server, ":1")).await.expect("pulls"), expected);
}

#[tokio::test]
async fn blobs_in_signed_storage_are_fetched_without_our_credentials() {
    let image = Image::new();
    let layer = image.layer.clone();
    let storage = Server::start(move |request, _| {
        assert_eq!(request.header("authorization"), None, "credentials went to the storage");
        Reply::ok(&layer[..])
    })
    .await;
    let (layer, elsewhere) = (digest(&image.layer), storage.url("/signed?sig=abc").to_string());
    let server = Server::start(move |request, _| {
        // base64 of me:pw
        if request.header("authorization") != Some("Basic bWU6cHc=") {
            return Reply::status(401).with("www-authenticate", "Basic realm=\"scripted\"");
        }
        if request.target.ends_with(&layer.to_string()) {
            return Reply::status(307).with("location", &elsewhere);
        }
        image.serve(request)
    })
    .await;
    let world = World::new();
    pull(&world.images(known(&server, "me")), &reference(&server, ":1")).await.expect("pulls");
    assert_eq!(storage.requests().len(), 1);
}

#[tokio::test]
async fn missing_images_and_platforms_are_named() {
    let (world, image) = (World::new(), Image::new());
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":{},
            "platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
        digest(&image.manifest),
        image.manifest.len()
    );
    let server = Server::start(move |request, _| {
        if request.target.ends_with("/manifests/s390x") {
            return Reply::ok(index.as_bytes()).with("content-type", media_type::DOCKER_INDEX);
        }
        image.serve(request)
    })
    .await;
    let images = world.images(Keychain::empty());
    let error = pull(&images, &reference(&server, ":2")).await.expect_err("no such tag");
    assert_eq!(error.diagnostic().code, codes::registry::NOT_FOUND);
    assert!(error.to_string().contains("/o/app:2`"), "{error}");
    let error = pull(&images, &reference(&server, ":s390x")).await.expect_err("no such platform");
    assert_eq!(error.diagnostic().code, codes::registry::NO_PLATFORM);
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    let error = pull(&images, &reference(&server, "")).await.expect_err("no tag");
    assert!(matches!(error, ImageError::Untagged(_)));
}

#[tokio::test]
async fn a_registry_that_asks_only_writers_gets_an_answer() {
    let image = World::new();
    let descriptor = image.image(30, &[1000, 2000]);
    let server = Server::start(|request, _| {
        let host = request.header("host").expect("every request names its host");
        match (request.method.as_str(), request.target.as_str()) {
            ("GET", "/v2/") => Reply::ok("{}"),
            ("GET" | "HEAD", target) if target.starts_with("/v2/") => Reply::status(404),
            ("GET", target) if target.starts_with("/token?") => {
                assert!(target.contains("scope=repository%3Ao%2Fapp%3Apull%2Cpush"), "{target}");
                Reply::ok(r#"{"token":"abc","expires_in":300}"#)
            }
            _ if request.header("authorization") != Some("Bearer abc") => {
                let challenge = format!(r#"Bearer realm="http://{host}/token",service="scripted""#);
                Reply::status(401).with("www-authenticate", challenge)
            }
            ("POST", _) => Reply::status(202).with("location", "/v2/upload"),
            ("PUT", target) if target.contains("/manifests/") => {
                Reply::status(201).with("docker-content-digest", digest(&request.body).to_string())
            }
            ("PUT", _) => Reply::status(201),
            _ => Reply::status(405),
        }
    })
    .await;
    let images = image.images(known(&server, "me"));
    let (to, tags) = (reference(&server, "").repository, ["1".parse().expect("a tag")]);
    let push =
        registry::image::Push { image: &descriptor, repository: &to, tags: &tags, fixed_tags: &[], mount_from: &[] };
    let receipt = images.push(&push, &quiet()).await.expect("pushes");
    assert_eq!(receipt.uploaded.count, 4);
    let tokens = server.lines().iter().filter(|line| line.starts_with("GET /token")).count();
    assert_eq!(tokens, 1, "one token does for all");
}
