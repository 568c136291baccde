//! The smaller services, and the session as a whole.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::health::health_client::HealthClient;
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use bollard_buildkit_proto::moby::filesync::v1::{
    BytesMessage, CredentialsRequest, FetchTokenRequest, GetTokenAuthorityRequest, VerifyTokenAuthorityRequest,
};
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage as AgentMessage, CheckAgentRequest, CheckAgentResponse,
};
use engine::SecretId;
use futures::stream;
use registry::image::{Credential, Keychain};
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::{SecretSlice, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use super::fixture::{Daemon, Scene, within};
use super::{Offer, Problem, Receive, Session, StreamSink};

const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";

#[tokio::test]
async fn the_session_says_what_it_answers_and_does() {
    let scene = Scene::new();
    let session = Session::new(Offer::default(), scene.store.clone());
    let metadata = session.metadata();
    let get = |name: &str| metadata.iter().filter(|(key, _)| *key == name).map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(get("x-docker-expose-session-uuid"), [session.id()]);
    let other = Session::new(Offer::default(), scene.store.clone());
    assert_ne!(session.id(), other.id());
    assert_eq!(get("x-docker-expose-session-sharedkey").len(), 1);
    assert!(other.metadata().contains(&metadata[2]), "the same directories, the same key");

    let daemon = scene.serve(Offer::default()).await;
    for method in get("x-docker-expose-session-grpc-method") {
        let path: &'static str = Box::leak(method.clone().into_boxed_str());
        let answered = within(daemon.unary::<(), ()>(path, Request::new(()))).await;
        assert!(!matches!(answered, Err(status) if status.code() == Code::Unimplemented), "{method}");
    }
    let mut health = HealthClient::new(daemon.channel.clone());
    let request = || HealthCheckRequest { service: String::new() };
    let checked: HealthCheckResponse = within(health.check(request())).await.expect("well").into_inner();
    assert_eq!(checked.status, 1);
    let mut watched = within(health.watch(request())).await.expect("well").into_inner();
    assert_eq!(within(watched.message()).await.expect("well").expect("a status").status, 1);
    let unheard = within(daemon.unary::<(), ()>("/moby.upload.v1.Upload/Pull", Request::new(()))).await;
    assert_eq!(unheard.expect_err("not offered").code(), Code::Unimplemented);
    // Somebody still watches: that does not keep it alive.
    daemon.cancel.cancel();
    within(daemon.served).await.expect("it ends");
    assert!(within(watched.message()).await.is_err());
}

#[tokio::test]
async fn secrets_are_given_by_name_only() {
    let scene = Scene::new();
    let secrets = BTreeMap::from([(SecretId("token".to_owned()), SecretSlice::from(b"s3\0cret".to_vec()))]);
    let offer = Offer { secrets, ..Offer::default() };
    assert!(!format!("{offer:?}").contains("115, 51"), "{offer:?}");
    let daemon = scene.serve(offer).await;
    let get = |id: &str| {
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        within(daemon.unary::<_, GetSecretResponse>(SECRET, Request::new(request)))
    };
    assert_eq!(get("token").await.expect("given").data, b"s3\0cret");
    for id in ["", "TOKEN", "../token", "token "] {
        assert_eq!(get(id).await.expect_err(id).code(), Code::NotFound);
        assert!(matches!(&daemon.journal.take_problems()[..], [Problem::NoSuchSecret { id: noted }] if noted == id));
    }
    daemon.hang_up().await;
}

#[tokio::test]
async fn credentials_are_the_keychain_s() {
    let scene = Scene::new();
    let password = Credential::Password { user: "user".to_owned(), password: SecretString::from("pass") };
    let keychain = Keychain::empty()
        .with("docker.io", password.clone())
        .with("registry.example:5000", password)
        .with("ghcr.io", Credential::Identity(SecretString::from("identity")));
    let daemon = scene.serve(Offer { keychain, ..Offer::default() }).await;
    let mut auth = AuthClient::new(daemon.channel.clone());
    for (host, username, secret) in [
        ("registry-1.docker.io", "user", "pass"),
        ("docker.io", "user", "pass"),
        ("registry.example:5000", "user", "pass"),
        ("registry.example", "", ""),
        ("ghcr.io", "", "identity"),
        ("", "", ""),
    ] {
        let request = CredentialsRequest { host: host.to_owned() };
        let found = within(auth.credentials(request)).await.expect("an answer").into_inner();
        assert_eq!((found.username.as_str(), found.secret.as_str()), (username, secret), "{host}");
    }
    // What cannot be reached from here is the daemon's part.
    let unknown = GetTokenAuthorityRequest { host: "registry.example".to_owned(), salt: vec![1; 32] };
    assert_eq!(within(auth.get_token_authority(unknown)).await.expect_err("unknown").code(), Code::Unavailable);
    drop(auth);
    daemon.hang_up().await;
}

/// A registry that wants tokens, and gives them to `user` with the password `pass`.
async fn token_registry() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address").to_string();
    let realm = format!("http://{address}/token");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let realm = realm.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await?);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let is_known = request.contains("Basic dXNlcjpwYXNz");
                let (status, body) = match request.starts_with("GET /token") {
                    true if is_known && request.contains("repository%3Aa%2Fb%3Apull") => {
                        ("200 OK", r#"{"token":"issued","expires_in":300}"#)
                    }
                    _ => ("401 Unauthorized", "{}"),
                };
                let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"tests\"");
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\n{challenge}\r\nContent-Length: {length}\r\n");
                let reply = format!("{head}Connection: close\r\n\r\n{body}");
                stream.write_all(reply.as_bytes()).await
            });
        }
    });
    (address, serving)
}

#[tokio::test]
async fn tokens_are_handed_out_and_passwords_are_not() {
    let scene = Scene::new();
    let (host, serving) = token_registry().await;
    let password = |word: &str| Credential::Password { user: "user".to_owned(), password: SecretString::from(word) };
    let offer = |word: &str| {
        let keychain = Keychain::empty().with(host.clone(), password(word));
        Offer { keychain, ..Offer::default() }
    };
    let [daemon, again, refused] =
        [scene.serve(offer("pass")).await, scene.serve(offer("pass")).await, scene.serve(offer("wrong")).await];
    let clients = [&daemon, &again, &refused].map(|daemon| AuthClient::new(daemon.channel.clone()));
    let mut keys = Vec::new();
    for (mut auth, salt) in clients.into_iter().flat_map(|auth| [(auth.clone(), 1), (auth, 2)]) {
        let request = GetTokenAuthorityRequest { host: host.clone(), salt: vec![salt; 32] };
        let key = within(auth.get_token_authority(request)).await.expect("an authority").into_inner().public_key;
        let payload = b"prove it".to_vec();
        let request = VerifyTokenAuthorityRequest { host: host.clone(), salt: vec![salt; 32], payload };
        let signed = within(auth.verify_token_authority(request)).await.expect("a proof").into_inner().signed;
        let (signature, payload) = signed.split_at(64);
        assert_eq!(payload, b"prove it");
        UnparsedPublicKey::new(&ED25519, &key).verify(payload, signature).expect("it is the key's");
        keys.push(key);
    }
    assert_eq!((&keys[0], &keys[1]), (&keys[2], &keys[3]), "the same credentials, another session");
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), 4, "other salts and other credentials have other keys");

    let fetch = async |daemon: &Daemon, realm: String, scope: &str| {
        let request = FetchTokenRequest {
            client_id: "buildkit-client".to_owned(),
            host: host.clone(),
            realm,
            service: "tests".to_owned(),
            scopes: vec![scope.to_owned()],
        };
        within(AuthClient::new(daemon.channel.clone()).fetch_token(request)).await.map(tonic::Response::into_inner)
    };
    let realm = format!("http://{host}/token");
    let issued = fetch(&daemon, realm.clone(), "repository:a/b:pull").await.expect("a token");
    assert_eq!(issued.token, "issued");
    assert!((290..=300).contains(&issued.expires_in), "{}", issued.expires_in);
    let own_path = fetch(&daemon, format!("http://{host}/token/of/a"), "repository:a/b:pull").await.expect("a token");
    assert_eq!(own_path.token, "issued", "another path of the same server");
    let other = fetch(&daemon, realm.clone(), "repository:c/d:pull").await.expect_err("not allowed");
    assert_eq!(other.code(), Code::PermissionDenied);
    let wrong = fetch(&refused, realm, "repository:a/b:pull").await.expect_err("not believed");
    assert_eq!(wrong.code(), Code::PermissionDenied);
    for elsewhere in ["http://127.0.0.1:9/token", "https://evil.example/token", "", "no url"] {
        let refusal = fetch(&daemon, elsewhere.to_owned(), "repository:a/b:pull").await.expect_err(elsewhere);
        assert_eq!(refusal.code(), Code::FailedPrecondition, "credentials go nowhere else");
        assert!(!refusal.message().contains("pass"), "{refusal}");
    }
    for daemon in [daemon, again, refused] {
        daemon.hang_up().await;
    }
    serving.abort();
}

/// A message of the agent protocol, with its length before it.
fn agent_message(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

/// An agent that answers each request with its own bytes, one of them more.
async fn echo_agent(listener: UnixListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            while let Ok(length) = socket.read_u32().await {
                let mut request = vec![0; length as usize];
                socket.read_exact(&mut request).await?;
                request.push(b'!');
                socket.write_all(&agent_message(&request)).await?;
            }
            io::Result::Ok(())
        });
    }
}

/// A connection of a step to its agent.
struct Step {
    requests: mpsc::UnboundedSender<AgentMessage>,
    answers: Streaming<AgentMessage>,
}

impl Step {
    async fn connect(daemon: &Daemon, id: Option<&str>) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        if let Some(id) = id {
            request.metadata_mut().insert("buildkit.ssh.id", id.parse().expect("a header"));
        }
        let answers = within(daemon.streaming(FORWARD_AGENT, request)).await?;
        Ok(Self { requests, answers })
    }

    fn say(&self, bytes: &[u8]) {
        self.requests.send(AgentMessage { data: bytes.to_vec() }).expect("somebody listens");
    }

    async fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < length {
            heard.extend(within(self.answers.message()).await.expect("an answer").expect("more").data);
        }
        heard
    }
}

#[tokio::test]
async fn agents_sign_and_do_nothing_else() {
    let scene = Scene::new();
    let socket = scene.path("agent");
    let agent = tokio::spawn(echo_agent(UnixListener::bind(&socket).expect("binds")));
    let agents = [("default", socket), ("dead", scene.path("dead"))].map(|(id, path)| (id.to_owned(), path));
    let daemon = scene.serve(Offer { agents: BTreeMap::from(agents), ..Offer::default() }).await;
    let check = |id: &str| {
        let request = CheckAgentRequest { id: id.to_owned() };
        within(daemon.unary::<_, CheckAgentResponse>(CHECK_AGENT, Request::new(request)))
    };
    check("").await.expect("the default one");
    check("default").await.expect("there");
    assert_eq!(check("other").await.expect_err("not offered").code(), Code::NotFound);
    assert_eq!(check("dead").await.expect_err("dead").code(), Code::FailedPrecondition);
    let problems = daemon.journal.take_problems();
    assert!(matches!(&problems[..], [Problem::NoSuchAgent { .. }, Problem::Agent { .. }]), "{problems:?}");
    for id in ["other", "dead"] {
        assert!(Step::connect(&daemon, Some(id)).await.is_err());
    }

    let mut step = Step::connect(&daemon, None).await.expect("connects");
    let large = [&[13][..], &[7; 100_000]].concat();
    for request in [&[11][..], b"\x0dsign this", &large] {
        // In whatever pieces it comes.
        agent_message(request).chunks(40_000).for_each(|piece| step.say(piece));
        let answer = agent_message(&[request, b"!"].concat());
        assert!(step.hear(answer.len()).await == answer);
    }
    // Adding, removing, locking, extensions, nothing at all: the agent never hears of it.
    for request in [&[17, 1, 2][..], &[18], &[19], &[22], &[27], &[]] {
        step.say(&agent_message(request));
        assert_eq!(step.hear(5).await, agent_message(&[5]));
    }
    let Step { requests, mut answers } = step;
    drop(requests);
    assert_eq!(within(answers.message()).await.expect("an orderly end"), None);

    let mut rude = Step::connect(&daemon, Some("default")).await.expect("connects");
    rude.say(&[0xff; 4]);
    assert_eq!(within(rude.answers.message()).await.expect_err("too long").code(), Code::FailedPrecondition);
    let torn = Step::connect(&daemon, Some("default")).await.expect("connects");
    torn.say(&[0, 0, 0, 9, 11]);
    let Step { requests, mut answers } = torn;
    drop(requests);
    assert!(within(answers.message()).await.is_err());
    daemon.hang_up().await;
    agent.abort();
}

#[tokio::test]
async fn an_agent_that_waits_for_its_user_does_not_keep_the_session() {
    let scene = Scene::new();
    let socket = scene.path("agent");
    let _silent = UnixListener::bind(&socket).expect("binds");
    let agents = BTreeMap::from([("default".to_owned(), socket)]);
    let daemon = scene.serve(Offer { agents, ..Offer::default() }).await;
    let step = Step::connect(&daemon, None).await.expect("connects");
    step.say(&agent_message(&[11]));
    daemon.cancel.cancel();
    within(daemon.served).await.expect("it ends");
}

/// What the exporter said, and the bytes.
type Received = (BTreeMap<String, String>, Vec<u8>);

/// Keeps a stream that it saw the end of.
#[derive(Debug, Default)]
struct Archive {
    received: Mutex<Option<Received>>,
    is_full: bool,
}

impl StreamSink for Archive {
    fn receive(&self, metadata: &BTreeMap<String, String>, content: &mut dyn Read) -> io::Result<()> {
        if self.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        *self.received.lock().expect("whole") = Some((metadata.clone(), bytes));
        Ok(())
    }
}

fn sending(pieces: Vec<Vec<u8>>) -> Request<impl futures::Stream<Item = BytesMessage> + Send + 'static> {
    let mut request = Request::new(stream::iter(pieces.into_iter().map(|data| BytesMessage { data })));
    request.metadata_mut().insert("buildkit-attachable-exporter-id", "0".parse().expect("a header"));
    request.metadata_mut().insert("exporter-md-containerimage.digest", "sha256:x".parse().expect("a header"));
    request
}

#[tokio::test]
async fn one_stream_is_received() {
    let scene = Scene::new();
    let archive = Arc::new(Archive::default());
    let sink = Arc::clone(&archive);
    let daemon = scene.serve(Offer { receive: Receive::Stream(sink), ..Offer::default() }).await;
    let pieces: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 300_000]).collect();
    let whole = pieces.concat();
    let mut answers: Streaming<BytesMessage> = within(daemon.streaming(SEND, sending(pieces))).await.expect("begins");
    assert_eq!(within(answers.message()).await.expect("taken"), None);
    let (metadata, bytes) = archive.received.lock().expect("whole").take().expect("received");
    assert!(bytes == whole);
    assert_eq!(metadata, BTreeMap::from([("containerimage.digest".to_owned(), "sha256:x".to_owned())]));
    let again = within(daemon.streaming::<_, BytesMessage>(SEND, sending(Vec::new()))).await;
    assert_eq!(again.expect_err("one was wanted").code(), Code::FailedPrecondition);
    daemon.hang_up().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_is_not_wanted_is_not_kept() {
    let scene = Scene::new();
    let daemon = scene.serve(Offer::default()).await;
    let unwanted = within(daemon.streaming::<_, BytesMessage>(SEND, sending(Vec::new()))).await;
    assert_eq!(unwanted.expect_err("nothing was wanted").code(), Code::NotFound);
    daemon.hang_up().await;

    let full = Arc::new(Archive { is_full: true, ..Archive::default() });
    let daemon = scene.serve(Offer { receive: Receive::Stream(full), ..Offer::default() }).await;
    let pieces = vec![vec![0; 100_000]; 50];
    let mut answers: Streaming<BytesMessage> = within(daemon.streaming(SEND, sending(pieces))).await.expect("begins");
    assert_eq!(within(answers.message()).await.expect_err("full").code(), Code::Internal);
    assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Receive { .. }]));
    daemon.hang_up().await;

    let archive = Arc::new(Archive::default());
    let sink = Arc::clone(&archive);
    let daemon = scene.serve(Offer { receive: Receive::Stream(sink), ..Offer::default() }).await;
    let (pieces, outgoing) = mpsc::unbounded_channel();
    pieces.send(BytesMessage { data: vec![1; 1000] }).expect("somebody listens");
    let answers: Streaming<BytesMessage> =
        within(daemon.streaming(SEND, Request::new(UnboundedReceiverStream::new(outgoing)))).await.expect("begins");
    daemon.cancel.cancel();
    within(daemon.served).await.expect("it ends");
    drop((answers, pieces));
    assert_eq!(*archive.received.lock().expect("whole"), None);
}
