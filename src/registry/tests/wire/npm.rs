//! npm metadata over the wire.

use diag::{Reported as _, codes};
use registry::npm::{Npm, PackageName};

use crate::fixture::http;
use crate::scripted::{Reply, Server};

fn name(text: &str) -> PackageName {
    text.parse().expect("a name")
}

#[tokio::test]
async fn a_release_is_found_with_its_integrity_and_time() {
    let document = r#"{"name":"@a/b","dist-tags":{"latest":"1.2.3"},"versions":{"1.2.3":{"engines":{"node":">=24"},
        "dist":{"tarball":"https://registry.npmjs.org/@a/b/-/b-1.2.3.tgz","integrity":"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="}}},
        "time":{"created":"2020-01-01T00:00:00.000Z","1.2.3":"2026-09-24T20:57:03.123Z"}}"#;
    let server = Server::in_turn(vec![Reply::Close, Reply::ok(document)]).await;
    let release = Npm::with_registry(http(), server.url("/npm")).version(&name("@a/b"), "^1").await.expect("resolves");
    assert_eq!(server.lines().last().map(String::as_str), Some("GET /npm/@a%2fb"));
    assert_eq!(release.version, "1.2.3");
    assert_eq!(release.published, Some(1_790_283_423));
    assert_eq!(release.integrity, registry::Sha512::of(""));
    assert_eq!(release.engines["node"], ">=24");
    assert_eq!(release.tarball.as_str(), "https://registry.npmjs.org/@a/b/-/b-1.2.3.tgz");
}

#[tokio::test]
async fn what_is_missing_or_no_document_is_said() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/none" => Reply::Answer { status: 404, headers: Vec::new(), body: br#"{"error":"Not found"}"#.to_vec() },
        "/old" => Reply::ok(r#"{"versions":{"1.0.0":{"dist":{"tarball":"http://x/y.tgz","shasum":"abc"}}}}"#),
        _ => Reply::ok("<html>log in to the hotel's network</html>"),
    })
    .await;
    let npm = Npm::with_registry(http(), server.url("/"));
    for (package, code) in [
        ("none", codes::registry::NOT_FOUND),
        ("hotel", codes::registry::MALFORMED),
        ("old", codes::registry::MALFORMED),
    ] {
        let error = npm.version(&name(package), "1.0.0").await.expect_err(package);
        assert_eq!(error.diagnostic().code, code, "{error:?}");
    }
}
