//! Proxies from the environment.

use std::process::Command;

use crate::fixture::http;
use crate::scripted::{Reply, Server};

/// Names a server for a run of this very test in a process with a proxy in its environment.
const DIRECT: &str = "CLAWBUILD_TEST_DIRECT";

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_through_the_proxy_and_those_to_this_machine_do_not() {
    let url = |text: &str| registry::Url::parse(text).expect("a url");
    if let Ok(direct) = std::env::var(DIRECT) {
        let through = http().get_bytes(&url("http://deb.example/pool/a.deb"), 100).await.expect("answered");
        assert_eq!(through, "GET http://deb.example/pool/a.deb");
        let past = http().get_bytes(&url(&format!("http://{direct}/x")), 100).await.expect("answered");
        assert_eq!(past, "GET /x");
        return;
    }
    let echo = |request: &crate::scripted::Request, _: usize| Reply::ok(request.line());
    let (proxy, direct) = (Server::start(echo).await, Server::start(echo).await);
    let address = format!("http://{}", proxy.address());
    let test = "proxies::requests_go_through_the_proxy_and_those_to_this_machine_do_not";
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--nocapture"]).env(DIRECT, direct.address());
    command.env("http_proxy", &address).env("HTTP_PROXY", &address).env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!((proxy.requests().len(), direct.requests().len()), (1, 1));
}
