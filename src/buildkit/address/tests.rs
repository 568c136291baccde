use std::path::PathBuf;

use diag::Reported as _;
use oci::Platform;

use super::*;
use crate::transport::Identity;

fn parsed(text: &str) -> Address {
    text.parse().unwrap_or_else(|error: AddressError| panic!("{error}"))
}

fn problem(text: &str) -> AddressProblem {
    text.parse::<Address>().expect_err(text).problem
}

#[test]
fn every_form_is_understood_and_written_back() {
    let container = |runtime, container: &str, context: Option<&str>| {
        let (container, context) = (container.to_owned(), context.map(str::to_owned));
        Address::Container(ContainerAddress { runtime, container, context })
    };
    let tcp = |host: &str, port| Address::Tcp(TcpAddress { host: host.to_owned(), port, tls: None });
    let ssh = |user: Option<&str>, host: &str, port, socket: Option<&str>| {
        let (user, socket) = (user.map(str::to_owned), socket.map(str::to_owned));
        Address::Ssh(SshAddress { user, host: host.to_owned(), port, socket })
    };
    for (text, address) in [
        ("unix:///run/buildkit/buildkitd.sock", Address::Unix(PathBuf::from("/run/buildkit/buildkitd.sock"))),
        ("unix:///with space/100%", Address::Unix(PathBuf::from("/with space/100%"))),
        ("tcp://localhost:1234", tcp("localhost", 1234)),
        ("tcp://10.0.0.7:8372", tcp("10.0.0.7", 8372)),
        ("tcp://[::1]:1234", tcp("::1", 1234)),
        ("docker-container://bk", container(ContainerRuntime::Docker, "bk", None)),
        (
            "docker-container://buildx_buildkit_ci0?context=remote",
            container(ContainerRuntime::Docker, "buildx_buildkit_ci0", Some("remote")),
        ),
        ("podman-container://bk", container(ContainerRuntime::Podman, "bk", None)),
        ("nerdctl-container://bk", container(ContainerRuntime::Nerdctl, "bk", None)),
        (
            "kube-pod://bk-0?context=prod&namespace=ci&container=buildkitd",
            Address::Pod(PodAddress {
                pod: "bk-0".to_owned(),
                namespace: Some("ci".to_owned()),
                container: Some("buildkitd".to_owned()),
                context: Some("prod".to_owned()),
            }),
        ),
        (
            "kube-pod://bk-0",
            Address::Pod(PodAddress { pod: "bk-0".to_owned(), namespace: None, container: None, context: None }),
        ),
        ("ssh://build.example", ssh(None, "build.example", None, None)),
        (
            "ssh://me@build.example:2222/run/user/1000/buildkit/buildkitd.sock",
            ssh(Some("me"), "build.example", Some(2222), Some("/run/user/1000/buildkit/buildkitd.sock")),
        ),
    ] {
        assert_eq!(parsed(text), address, "{text}");
        assert_eq!(address.to_string(), text);
    }
}

#[test]
fn what_is_no_address_says_why() {
    let missing = AddressProblem::Missing;
    for (text, expected) in [
        ("", AddressProblem::NoScheme),
        ("/run/buildkit/buildkitd.sock", AddressProblem::NoScheme),
        ("localhost:1234", AddressProblem::NoScheme),
        ("http://localhost:1234", AddressProblem::Scheme { scheme: "http".to_owned() }),
        ("unix://", missing("socket")),
        ("unix://run/buildkitd.sock", AddressProblem::RelativePath),
        ("tcp://", missing("host")),
        ("tcp://localhost", missing("port")),
        ("tcp://localhost:1234/path", AddressProblem::Surplus("path")),
        ("tcp://me@localhost:1234", AddressProblem::Surplus("user")),
        ("tcp://localhost:1234#x", AddressProblem::Surplus("fragment")),
        ("tcp://localhost:1234?cacert=/ca.pem", AddressProblem::Parameter("cacert".to_owned())),
        ("tcp://localhost:port", AddressProblem::Url(url::ParseError::InvalidPort)),
        ("docker-container://", missing("container")),
        ("docker-container://bk:1", AddressProblem::Surplus("port")),
        ("docker-container://bk?ctx=a", AddressProblem::Parameter("ctx".to_owned())),
        ("docker-container://-it", AddressProblem::Hyphen("-it".to_owned())),
        ("podman-container://bk?context=a", AddressProblem::Parameter("context".to_owned())),
        ("kube-pod://", missing("pod")),
        ("kube-pod://Bk_0", AddressProblem::KubernetesName("Bk_0".to_owned())),
        ("kube-pod://bk?namespace=Ci", AddressProblem::KubernetesName("Ci".to_owned())),
        ("ssh://", missing("host")),
        ("ssh://me:secret@host", AddressProblem::Password),
        ("ssh://-oProxyCommand=evil", AddressProblem::Hyphen("-oProxyCommand=evil".to_owned())),
        ("ssh://-l@host", AddressProblem::Hyphen("-l".to_owned())),
        ("ssh://host?x=y", AddressProblem::Parameter("x".to_owned())),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn passwords_do_not_come_back_in_errors() {
    for text in ["ssh://me:hunter2@host", "tcp://me:hunter2@host:1/x", "http://:hunter2@host"] {
        let error = text.parse::<Address>().expect_err(text);
        let shown = format!("{error} {:?}", error.diagnostic());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn diagnostics_help() {
    let help = |text: &str| text.parse::<Address>().expect_err(text).diagnostic().help;
    assert_eq!(help("docker-contianer://x")[0], "did you mean `docker-container://`?");
    assert!(help("tcp://host")[0].contains("1234"));
    let error = "tcp://h:1,platfrom=linux/amd64".parse::<BuilderArgument>().expect_err("a typo");
    assert_eq!(error.diagnostic().help[0], "did you mean `platform`?");
}

#[test]
fn arguments_have_attributes() {
    let argument: BuilderArgument = "tcp://[::1]:1234,platform=linux/amd64,linux/arm64,cacert=/tls/ca.pem,\
         cert=/tls/cert.pem,key=/tls/key.pem,servername=builder"
        .parse()
        .expect("an argument");
    let tls = Tls {
        authority: Some(PathBuf::from("/tls/ca.pem")),
        identity: Some(Identity { certificate: PathBuf::from("/tls/cert.pem"), key: PathBuf::from("/tls/key.pem") }),
        server_name: Some("builder".to_owned()),
    };
    let address = Address::Tcp(TcpAddress { host: "::1".to_owned(), port: 1234, tls: Some(tls) });
    assert_eq!(argument.place, BuilderPlace::Address(address));
    assert_eq!(argument.platforms, [Platform::LINUX_AMD64, Platform::LINUX_ARM64]);

    let argument: BuilderArgument = "ci,platform=linux/arm64".parse().expect("a name");
    assert_eq!(argument.place, BuilderPlace::Name("ci".to_owned()));
    assert_eq!(argument.platforms, [Platform::LINUX_ARM64]);
}

#[test]
fn attributes_that_cannot_be() {
    let problem = |text: &str| text.parse::<BuilderArgument>().expect_err(text).problem;
    for (text, expected) in [
        ("", AddressProblem::Missing("builder")),
        (",platform=linux/amd64", AddressProblem::Missing("builder")),
        ("tcp://h:1,cert=/c", AddressProblem::Half { given: "cert", missing: "key" }),
        ("tcp://h:1,key=/k", AddressProblem::Half { given: "key", missing: "cert" }),
        ("tcp://h:1,cacert=", AddressProblem::Value { attribute: "cacert", expected: "a file" }),
        ("tcp://h:1,cacert=/a,cacert=/b", AddressProblem::Twice("cacert")),
        ("unix:///s,cacert=/a", AddressProblem::Certificates),
        ("ci,cacert=/a", AddressProblem::Certificates),
        ("ci,linux/amd64", AddressProblem::Attribute("linux/amd64".to_owned())),
        ("localhost:1234", AddressProblem::NoScheme),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
    assert!(matches!(problem("ci,platform=plan9/mips"), AddressProblem::Platform(_)));
}
