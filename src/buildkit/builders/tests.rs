//! Files as buildx 0.11 to 0.38 and Docker 20.10 to 29 write them, made by hand.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use diag::Reported as _;
use oci::Digest;

use super::*;

struct Home {
    directory: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path().display().to_string();
        Self { directory, variables: BTreeMap::from([("HOME", home)]) }
    }

    fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(variable, value.into());
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the home")).expect("a directory");
        fs::write(path, content).expect("a file");
        self
    }

    /// A context as `docker context create` leaves it.
    fn context(self, name: &str, docker: &str) -> Self {
        let id = Digest::of(name).hex();
        let meta =
            format!(r#"{{"Name":"{name}","Metadata":{{"Description":"made by hand"}},"Endpoints":{{{docker}}}}}"#);
        self.file(&format!(".docker/contexts/meta/{id}/meta.json"), &meta)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn environment(&self) -> Environment {
        Environment::new(|name| self.variables.get(name).map(OsString::from))
    }

    /// A builder as text, with the home as `~`.
    fn show(&self, builder: &Builder) -> String {
        let mut text = format!("{} {}", builder.name, builder.driver.as_str());
        for node in &builder.nodes {
            let platforms: Vec<_> = node.platforms.iter().map(ToString::to_string).collect();
            let _ = write!(text, "\n  {} [{}] {:?}", node.name, platforms.join(" "), node.reach);
        }
        text.replace(&self.directory.path().display().to_string(), "~")
    }
}

fn docker_host(host: &str) -> String {
    format!(r#""docker":{{"Host":"{host}","SkipTLSVerify":false}}"#)
}

#[test]
fn without_any_file_there_is_the_local_docker() {
    let home = Home::new();
    let environment = home.environment();
    assert_eq!(environment.current_context().expect("a name"), "default");
    let builder = environment.current_builder().expect("a builder");
    assert_eq!(home.show(&builder), "default docker\n  default [] Docker(Unix(\"/var/run/docker.sock\"))");
    assert_eq!(environment.context_names(), ["default"]);
    assert_eq!(environment.instance_names(), Vec::<String>::new());
    let nothing = Environment::new(|_| None);
    assert!(nothing.current_builder().is_ok(), "not even a home");
}

#[test]
fn the_current_context() {
    let home = Home::new()
        .context("remote", &docker_host("ssh://me@remote"))
        .file(".docker/config.json", r#"{"auths":{"ghcr.io":{}},"currentContext":"remote","plugins":{}}"#);
    assert_eq!(home.environment().docker().expect("a context").endpoint.to_string(), "ssh://me@remote");
    let home = home.with("DOCKER_CONTEXT", "default");
    assert_eq!(home.environment().docker().expect("a context").endpoint.to_string(), "unix:///var/run/docker.sock");
    // DOCKER_HOST goes before any context.
    let home = home.with("DOCKER_CONTEXT", "remote").with("DOCKER_HOST", "tcp://elsewhere");
    let docker = home.environment().docker().expect("a context");
    assert_eq!((docker.name.as_str(), docker.endpoint.to_string().as_str()), ("default", "tcp://elsewhere:2375"));
}

#[test]
fn directories_are_where_the_variables_say() {
    let home = Home::new().file("elsewhere/config.json", r#"{"currentContext":"x"}"#);
    let elsewhere = home.path("elsewhere").display().to_string();
    let home = home.with("DOCKER_CONFIG", elsewhere.clone());
    let environment = home.environment();
    assert_eq!(environment.buildx_config.as_deref(), Some(Path::new(&elsewhere).join("buildx").as_path()));
    assert_eq!(environment.current_context().expect("a name"), "x");
    let home = Home::new().with("BUILDX_CONFIG", "/bx").with("DOCKER_CONFIG", "");
    let environment = home.environment();
    assert_eq!(environment.buildx_config.as_deref(), Some(Path::new("/bx")));
    assert_eq!(environment.docker_config, Some(home.path(".docker")), "an empty variable says nothing");
}

#[test]
fn contexts_of_every_kind() {
    let id = Digest::of("secure").hex();
    let pem = |name: &str| format!(".docker/contexts/tls/{id}/docker/{name}.pem");
    let home = Home::new()
        .context("local", &docker_host("unix:///run/user/1000/docker.sock"))
        .context("plain", &docker_host("tcp://10.0.0.7"))
        .context("secure", &docker_host("tcp://10.0.0.7:2376"))
        .context(
            "kube",
            &format!(r#"{},"kubernetes":{{"Host":"https://k","DefaultNamespace":"ci"}}"#, docker_host("unix:///s")),
        )
        .context("none", "")
        .context("lax", r#""docker":{"Host":"tcp://h","SkipTLSVerify":true}"#)
        .context("windows", &docker_host("npipe:////./pipe/docker_engine"))
        .file(&pem("ca"), "")
        .file(&pem("cert"), "")
        .file(&pem("key"), "");
    let environment = home.environment();
    assert_eq!(environment.context_names(), ["default", "kube", "lax", "local", "none", "plain", "secure", "windows"]);
    let shown = |name: &str| {
        let shown = environment.context(name).map(|context| format!("{:?}", context.endpoint));
        let shown = shown.unwrap_or_else(|error| error.to_string());
        shown.replace(&home.directory.path().display().to_string(), "~").replace(&id, "ID")
    };
    assert_eq!(shown("local"), r#"Unix("/run/user/1000/docker.sock")"#);
    assert_eq!(shown("plain"), r#"Tcp { host: "10.0.0.7", port: 2375, tls: None }"#);
    assert_eq!(
        shown("secure"),
        r#"Tcp { host: "10.0.0.7", port: 2376, tls: Some(Tls { authority: Some("~/.docker/contexts/tls/ID/docker/ca.pem"), identity: Some(Identity { certificate: "~/.docker/contexts/tls/ID/docker/cert.pem", key: "~/.docker/contexts/tls/ID/docker/key.pem" }), server_name: None }) }"#
    );
    assert_eq!(shown("kube"), r#"Unix("/s")"#);
    assert_eq!(shown("none"), "the context `none` has no Docker endpoint");
    assert_eq!(
        shown("lax"),
        "the context `lax`, `tcp://h`, is not where Docker can be: it switches off that the daemon's certificate is \
         checked, which clawbuild does not do"
    );
    assert!(shown("windows").ends_with("`npipe` is not supported, only unix, tcp and ssh are"));
    let error = environment.context("secrue").expect_err("a typo");
    assert_eq!(error.diagnostic().help[0], "did you mean `secure`?");
}

#[test]
fn a_context_that_is_not_there_says_who_names_it() {
    let home = Home::new().with("DOCKER_CONTEXT", "gone");
    let error = home.environment().docker().expect_err("it is not there");
    assert_eq!(error.to_string(), "there is no Docker context `gone`, which DOCKER_CONTEXT names");
    let home = Home::new().file(".docker/config.json", r#"{"currentContext":"gone"}"#);
    let error = home.environment().docker().expect_err("it is not there");
    assert_eq!(error.to_string(), "there is no Docker context `gone`, which Docker's config.json names");
}

#[test]
fn docker_host_with_certificates() {
    let home = Home::new()
        .with("DOCKER_HOST", "tcp://h")
        .with("DOCKER_TLS_VERIFY", "1")
        .file(".docker/cert.pem", "")
        .file(".docker/key.pem", "");
    let endpoint = format!("{:?}", home.environment().docker().expect("a context").endpoint);
    let endpoint = endpoint.replace(&home.directory.path().display().to_string(), "~");
    assert_eq!(
        endpoint,
        r#"Tcp { host: "h", port: 2376, tls: Some(Tls { authority: Some("~/.docker/ca.pem"), identity: Some(Identity { certificate: "~/.docker/cert.pem", key: "~/.docker/key.pem" }), server_name: None }) }"#
    );
    let home = home.with("DOCKER_CERT_PATH", "/certs");
    assert_eq!(home.environment().docker_certificates.as_deref(), Some(Path::new("/certs")));
    let error = Home::new().with("DOCKER_HOST", "tcp://me:hunter2@h").environment().docker().expect_err("a password");
    assert_eq!(error.to_string(), "DOCKER_HOST, `tcp://me:***@h`, is not where Docker can be: passwords are not taken");
}

#[test]
fn the_docker_container_driver() {
    let home = Home::new()
        .context("arm", &docker_host("ssh://arm.example"))
        .file(
            ".docker/buildx/instances/ci",
            r#"{"Name":"ci","Driver":"docker-container","Nodes":[
                {"Name":"ci0","Endpoint":"unix:///var/run/docker.sock",
                 "Platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"amd64","os":"linux","variant":"v2"},
                              {"architecture":"386","os":"linux"}],
                 "DriverOpts":{"image":"moby/buildkit:v0.29.0","network":"host","env.FOO":"bar"},
                 "Flags":["--allow-insecure-entitlement=network.host"],
                 "Files":{"buildkitd.toml":"ZGVidWcgPSB0cnVlCg=="}},
                {"Name":"ci1","Endpoint":"arm","Platforms":[{"architecture":"arm64","os":"linux"}],
                 "DriverOpts":null,"Flags":null,"Files":null}],
              "Dynamic":false}"#,
        );
    let builder = home.environment().builder("ci").expect("a builder");
    assert_eq!(
        home.show(&builder),
        "ci docker-container\n  \
         ci0 [linux/amd64] BuildKit(ContainerDial { endpoint: Unix(\"/var/run/docker.sock\"), container: \"buildx_buildkit_ci0\" })\n  \
         ci1 [linux/arm64] BuildKit(ContainerDial { endpoint: Ssh(SshAddress { user: None, host: \"arm.example\", \
         port: None, socket: None }), container: \"buildx_buildkit_ci1\" })"
    );
    assert_eq!(home.environment().instance_names(), ["ci"]);
    // Names know no upper case.
    assert!(home.environment().builder("CI").is_ok());
}

#[test]
fn the_docker_driver_and_contexts() {
    let home = Home::new().context("other", &docker_host("unix:///other.sock")).file(
        ".docker/buildx/instances/mine",
        r#"{"Name":"mine","Driver":"docker","Nodes":[{"Name":"mine0","Endpoint":"other","Platforms":[],
            "DriverOpts":{},"Flags":[],"Files":{}}],"Dynamic":false}"#,
    );
    let environment = home.environment();
    let shown = |name: &str| home.show(&environment.builder(name).expect(name));
    assert_eq!(shown("mine"), "mine docker\n  mine0 [] Docker(Unix(\"/other.sock\"))");
    assert_eq!(shown("other"), "other docker\n  other [] Docker(Unix(\"/other.sock\"))");
    assert_eq!(shown("default"), "default docker\n  default [] Docker(Unix(\"/var/run/docker.sock\"))");
}

#[test]
fn the_remote_driver() {
    let instance = |endpoint: &str, options: &str| {
        Home::new().file(
            ".docker/buildx/instances/r",
            &format!(
                r#"{{"Name":"r","Driver":"remote","Nodes":[{{"Name":"r0","Endpoint":"{endpoint}","Platforms":null,
                    "DriverOpts":{options},"Flags":null,"Files":null}}],"Dynamic":false}}"#
            ),
        )
    };
    let shown = |endpoint: &str, options: &str| {
        let home = instance(endpoint, options);
        match home.environment().builder("r") {
            Ok(builder) => home.show(&builder),
            Err(error) => error.diagnostic().causes.pop().unwrap_or_else(|| error.to_string()),
        }
    };
    assert_eq!(
        shown(
            "tcp://h:1234",
            r#"{"cacert":"/t/ca.pem","cert":"/t/cert.pem","key":"/t/key.pem","servername":"bk","default-load":"true"}"#
        ),
        "r remote\n  r0 [] BuildKit(Tcp { host: \"h\", port: 1234, tls: Some(Tls { authority: Some(\"/t/ca.pem\"), \
         identity: Some(Identity { certificate: \"/t/cert.pem\", key: \"/t/key.pem\" }), server_name: Some(\"bk\") }) })"
    );
    assert_eq!(shown("tcp://h:1", "null"), "r remote\n  r0 [] BuildKit(Tcp { host: \"h\", port: 1, tls: None })");
    assert_eq!(
        shown("unix:///run/buildkit/buildkitd.sock", "{}"),
        "r remote\n  r0 [] BuildKit(Unix { path: \"/run/buildkit/buildkitd.sock\" })"
    );
    assert_eq!(
        shown("docker-container://bk", "{}"),
        "r remote\n  r0 [] BuildKit(ContainerDial { endpoint: Unix(\"/var/run/docker.sock\"), container: \"bk\" })"
    );
    assert_eq!(
        shown("kube-pod://bk-0?namespace=ci&context=prod&container=buildkitd", "{}"),
        "r remote\n  r0 [] BuildKit(Process { address: \"kube-pod://bk-0?context=prod&namespace=ci&container=buildkitd\", \
         program: \"kubectl\", args: [\"--context=prod\", \"--namespace=ci\", \"exec\", \"-i\", \"bk-0\", \
         \"--container=buildkitd\", \"--\", \"buildctl\", \"dial-stdio\"], greets: true })"
    );
    assert_eq!(
        shown("ssh://me@h:2222/run/bk.sock", "{}"),
        "r remote\n  r0 [] BuildKit(Process { address: \"ssh://me@h:2222/run/bk.sock\", program: \"ssh\", args: [\"-o\", \
         \"BatchMode=yes\", \"-l\", \"me\", \"-p\", \"2222\", \"--\", \"h\", \"buildctl\", \"--addr\", \
         \"unix:///run/bk.sock\", \"dial-stdio\"], greets: true })"
    );
    assert_eq!(
        shown("podman-container://bk", "{}"),
        "r remote\n  r0 [] BuildKit(Process { address: \"podman-container://bk\", program: \"podman\", args: [\"exec\", \
         \"-i\", \"bk\", \"buildctl\", \"dial-stdio\"], greets: true })"
    );
    for (endpoint, options, expected) in [
        ("tcp://h", "{}", "`tcp://h` is not a builder's address: it names no port"),
        ("tcp://h:1", r#"{"cert":"/c"}"#, "`tcp://h:1` is not a builder's address: `cert` is of no use without `key`"),
        (
            "unix:///s",
            r#"{"cacert":"/c"}"#,
            "`unix:///s` is not a builder's address: certificates mean something with `tcp://` only",
        ),
        (
            "tcp://h:1",
            r#"{"cacert":"c"}"#,
            "the node `r0` of the builder `r` has the option `cacert`, which is not an absolute path",
        ),
        (
            "tcp://h:1",
            r#"{"image":"x"}"#,
            "the node `r0` of the builder `r` has the option `image`, which is not one of the remote driver's",
        ),
    ] {
        assert_eq!(shown(endpoint, options), expected);
    }
}

#[test]
fn the_kubernetes_driver() {
    let home = Home::new().file(
        ".docker/buildx/instances/k",
        r#"{"Name":"k","Driver":"kubernetes","Nodes":[
            {"Name":"loving_mendeleev0","Endpoint":"kubernetes:///k?deployment=loving_mendeleev0&kubeconfig=%2Fhome%2Fme%2Fk3s.yaml",
             "Platforms":[{"architecture":"amd64","os":"linux"}],
             "DriverOpts":{"namespace":"ci","loadbalance":"random","replicas":"4","requests.cpu":"1"},"Flags":null,"Files":null},
            {"Name":"k1","Endpoint":"kubernetes:///k?deployment=k1&kubeconfig=","Platforms":[{"architecture":"arm64","os":"linux"}],
             "DriverOpts":{"qemu.install":"true"},"Flags":null,"Files":null},
            {"Name":"k2","Endpoint":"unix:///var/run/docker.sock","Platforms":null,"DriverOpts":null,"Flags":null,"Files":null}],
          "Dynamic":true}"#,
    );
    let builder = home.environment().builder("k").expect("a builder");
    assert_eq!(
        home.show(&builder),
        "k kubernetes\n  \
         loving_mendeleev0 [linux/amd64] BuildKit(PodsDial { app: \"loving-mendeleev0\", namespace: Some(\"ci\"), \
         kubeconfig: Some(\"/home/me/k3s.yaml\"), is_random: true, .. })\n  \
         k1 [linux/arm64] BuildKit(PodsDial { app: \"k1\", namespace: None, kubeconfig: None, is_random: false, .. })\n  \
         k2 [] BuildKit(PodsDial { app: \"k2\", namespace: None, kubeconfig: None, is_random: false, .. })"
    );
}

#[test]
fn which_builder_is_in_use() {
    let instance = |name: &str| {
        format!(
            r#"{{"Name":"{name}","Driver":"remote","Nodes":[{{"Name":"{name}0","Endpoint":"unix:///{name}.sock"}}]}}"#
        )
    };
    let home = || {
        ["a", "b", "c"]
            .into_iter()
            .fold(Home::new(), |home, name| home.file(&format!(".docker/buildx/instances/{name}"), &instance(name)))
    };
    let current = |home: &Home| home.environment().current_builder().expect("a builder").name;
    let choose = |json: &str| home().file(".docker/buildx/current", json);
    let socket = "unix:///var/run/docker.sock";
    assert_eq!(current(&home()), "default");
    assert_eq!(current(&choose(&format!(r#"{{"Key":"{socket}","Name":"a","Global":false}}"#))), "a");
    // Chosen while another context was the current one.
    let other = r#"{"Key":"other","Name":"a","Global":false}"#;
    assert_eq!(current(&choose(other)), "default");
    assert_eq!(current(&choose(r#"{"Key":"other","Name":"a","Global":true}"#)), "a");
    // The default of a context, made with `docker buildx use --default`.
    let hash = &Digest::of(socket).hex()[..20];
    let defaulted = choose(other).file(&format!(".docker/buildx/defaults/{hash}"), "b");
    assert_eq!(current(&defaulted), "b");
    assert_eq!(current(&defaulted.with("BUILDX_BUILDER", "c")), "c");
    // `docker buildx use default`, and an instance that was removed.
    assert_eq!(current(&choose(&format!(r#"{{"Key":"{socket}","Name":"","Global":false}}"#))), "default");
    assert_eq!(current(&choose(&format!(r#"{{"Key":"{socket}","Name":"gone","Global":false}}"#))), "default");
    let host = choose(r#"{"Key":"tcp://h:1","Name":"a","Global":false}"#).with("DOCKER_HOST", "tcp://h:1");
    assert_eq!(current(&host), "a");
}

#[test]
fn builders_that_cannot_be_had() {
    let home = Home::new()
        .file(".docker/buildx/instances/prod", r#"{"Name":"prod","Driver":"remote","Nodes":[]}"#)
        .file(".docker/buildx/instances/cloud", r#"{"Name":"cloud","Driver":"cloud","Nodes":[{"Name":"n"}]}"#)
        .file(".docker/buildx/instances/torn", r#"{"Name":"torn","Dri"#);
    let environment = home.environment();
    let error = |name: &str| environment.builder(name).expect_err(name);
    assert_eq!(error("prod").to_string(), "the builder `prod` has no nodes");
    assert_eq!(error("cloud").to_string(), "the builder `cloud` has the driver `cloud`, which clawbuild does not know");
    assert!(error("torn").to_string().ends_with("instances/torn` is not a buildx builder"));
    assert_eq!(error("prdo").diagnostic().help[0], "did you mean `prod`?");
    assert_eq!(error("prdo").diagnostic().help[1], "there are cloud, prod, torn, default");
    // A name that is a path leads nowhere.
    assert!(matches!(error("../instances/prod"), BuilderError::Unknown { .. }));
    let home = Home::new().with("BUILDX_BUILDER", "x").environment();
    assert!(matches!(home.current_builder(), Err(BuilderError::Unknown { .. })));
}
