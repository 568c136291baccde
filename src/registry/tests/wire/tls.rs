//! Certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use diag::{Reported as _, codes};
use oci::Platform;
use registry::image::{ImageSettings, Keychain, Push};

use crate::fixture::{World, http, quiet};
use crate::registries::{Access, DockerRegistry};

/// A certificate for the loopback that nobody trusts yet, and its key.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).expect("writes");
    fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
    (certificate, key)
}

/// Names the registry for a run of this very test in a process with another `SSL_CERT_FILE`.
const REGISTRY: &str = "CLAWBUILD_TEST_TLS_REGISTRY";

#[tokio::test]
async fn certificates_are_checked_against_what_the_system_or_the_user_trusts() {
    if let Ok(address) = std::env::var(REGISTRY) {
        let url = registry::Url::parse(&format!("https://{address}/v2/")).expect("a url");
        assert_eq!(http().get_bytes(&url, 100).await.expect("it is trusted"), "{}");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = certificate(directory.path());
    let Some(server) = DockerRegistry::start(&Access::Tls(&certificate, &key)) else { return };

    let world = World::new();
    let image = world.image(1, &[1000]);
    let to = server.repository("app");
    let tags = ["1".parse().expect("a tag")];
    let push = Push { image: &image, repository: &to, tags: &tags, fixed_tags: &[], mount_from: &[] };
    // On the loopback plain HTTP is tried first, and the answer tells that this is TLS.
    let error = world.images(Keychain::empty()).push(&push, &quiet()).await.expect_err("an unknown authority");
    let diagnostic = error.diagnostic();
    assert_eq!(diagnostic.code, codes::registry::CERTIFICATE, "{error:?}");
    assert!(diagnostic.help.iter().any(|help| help.contains("SSL_CERT_FILE")));

    let insecure = [server.address().to_owned()].into();
    let images = world.images_with(ImageSettings { insecure, ..ImageSettings::default() });
    images.push(&push, &quiet()).await.expect("pushes to a registry called insecure");
    let other = World::new();
    let insecure = [server.address().to_owned()].into();
    let images = other.images_with(ImageSettings { insecure, ..ImageSettings::default() });
    images.pull(&to.with_tag(tags[0].clone()), Platform::LINUX_AMD64, &quiet()).await.expect("pulls");

    let test = "tls::certificates_are_checked_against_what_the_system_or_the_user_trusts";
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(REGISTRY, server.address())
        .env("SSL_CERT_FILE", &certificate)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
