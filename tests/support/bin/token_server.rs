//! A token server for the test registry: Docker's token authentication, as far as tests need it.
//!
//! `token-server KEY.pk8 CERT.pem ISSUER SERVICE USER PASSWORD` listens on a free port of 127.0.0.1 and prints its
//! address. Anyone gets `pull` on `public/…`; the user gets whatever is asked for.
//! Spec: distribution/spec/auth/token.md, jwt.md.

#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a program for tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// How long a token is good, in seconds.
const LIFETIME: u64 = 300;

struct Server {
    key: EcdsaKeyPair,
    /// The signing certificate, DER in base64, as `x5c` wants it.
    certificate: String,
    issuer: String,
    service: String,
    user: String,
    password: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key, certificate, issuer, service, user, password] = &*arguments else {
        eprintln!("usage: token-server KEY.pk8 CERT.pem ISSUER SERVICE USER PASSWORD");
        std::process::exit(2);
    };
    let pk8 = std::fs::read(key).unwrap();
    let pem = std::fs::read_to_string(certificate).unwrap();
    let server = Arc::new(Server {
        key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pk8, &SystemRandom::new()).unwrap(),
        certificate: pem.lines().filter(|line| !line.starts_with("-----")).collect(),
        issuer: issuer.clone(),
        service: service.clone(),
        user: user.clone(),
        password: password.clone(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming().flatten() {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.answer(stream));
    }
}

impl Server {
    fn answer(&self, mut stream: TcpStream) {
        // A client that sends half a request must not hold the thread for ever.
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        let headers: BTreeMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let (status, body) = self.respond(&request, headers.get("authorization").map(String::as_str));
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        // The client may have gone away; nobody is left to tell.
        let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
    }

    fn respond(&self, request: &str, authorization: Option<&str>) -> (&'static str, Value) {
        let mut words = request.split(' ');
        let (Some("GET"), Some(target)) = (words.next(), words.next()) else {
            return ("405 Method Not Allowed", json!({"error": "only GET"}));
        };
        let Some(query) = target.strip_prefix("/token") else {
            return ("404 Not Found", json!({"error": "only /token"}));
        };
        let known = match authorization.map(|header| self.is_user(header)) {
            Some(false) => return ("401 Unauthorized", json!({"details": "incorrect username or password"})),
            Some(true) => true,
            None => false,
        };
        let asked = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
        let access: Vec<Value> = asked
            .filter(|(name, _)| *name == "scope")
            .flat_map(|(_, scopes)| {
                decode(scopes).split(' ').filter_map(|scope| grant(scope, known)).collect::<Vec<_>>()
            })
            .collect();
        let token = self.token(&access);
        ("200 OK", json!({"token": token, "access_token": token, "expires_in": LIFETIME}))
    }

    fn is_user(&self, authorization: &str) -> bool {
        let credentials = authorization.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        credentials.is_some_and(|bytes| bytes == format!("{}:{}", self.user, self.password).as_bytes())
    }

    fn token(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": self.issuer, "sub": self.user, "aud": self.service,
            "exp": now + LIFETIME, "nbf": now - 10, "iat": now, "jti": now.to_string(), "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What of a scope (`repository:NAME:ACTION,…`) is granted.
fn grant(scope: &str, known: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let public = kind == "repository" && name.starts_with("public/");
    let actions: Vec<&str> = actions.split(',').filter(|action| known || (public && *action == "pull")).collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

/// Undoes percent-encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_granted_by_who_asks() {
        let actions = |scope, known| grant(scope, known).map(|grant| grant["actions"].clone());
        assert_eq!(actions("repository:public/a:pull,push", false), Some(json!(["pull"])));
        assert_eq!(actions("repository:private/a:pull", false), Some(json!([])));
        assert_eq!(actions("repository:localhost:5000/a:pull,push", true), Some(json!(["pull", "push"])));
        assert_eq!(actions("nonsense", true), None);
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decode("repository%3Aa%2Fb%3Apull+push%"), "repository:a/b:pull push%");
    }
}
