//! Where a registry is and what it speaks.

use oci::Repository;
use reqwest::StatusCode;
use url::Url;

use super::ImageError;
use super::challenge::{Challenge, challenge};
use crate::http::{Http, HttpError, Trust, is_loopback, is_transient, status_error};

/// Whether an image is fetched or sent. Mirrors serve only the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the registry.
    Pull,
    /// To the registry.
    Push,
}

/// A registry that answered.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// The root of its interface: ends with `/v2/`.
    pub(super) base: Url,
    pub(super) trust: Trust,
    /// What it wants of everyone, if anything.
    pub(super) challenge: Option<Challenge>,
    /// What credentials for it are filed under: the registry's name, or a mirror's host and port.
    pub(super) name: String,
}

/// One way to reach a registry.
#[derive(Debug)]
struct Candidate {
    base: Url,
    trust: Trust,
}

impl Endpoint {
    /// Finds out how `repository`'s registry is reached.
    ///
    /// TLS always, except on this machine's loopback and for registries called insecure, where what answers decides.
    pub(super) async fn discover(
        http: &Http,
        repository: &Repository,
        direction: Direction,
        insecure: bool,
    ) -> Result<Self, ImageError> {
        let (name, candidates) = candidates(http, repository, direction, insecure)?;
        let mut backoff = http.backoff();
        loop {
            let mut failure: Option<HttpError> = None;
            for Candidate { base, trust } in &candidates {
                match ping(http, base, *trust).await {
                    Ok(challenge) => {
                        return Ok(Self { base: base.clone(), trust: *trust, challenge, name });
                    }
                    Err(error) => {
                        failure = Some(match (failure, error) {
                            // A server that was reached says more than one that was not.
                            (Some(first), HttpError::Unreachable { .. }) => first,
                            (_, error) => error,
                        });
                    }
                }
            }
            let Some(error) = failure else { return Err(ImageError::NoEndpoint { registry: name }) };
            if !backoff.wait(&error, &crate::progress::Meter::silent()).await {
                return Err(error.into());
            }
        }
    }

    /// The registry at this host and port, asked once. TLS always, except on this machine's loopback.
    pub(super) async fn at(http: &Http, host: &str) -> Result<Self, ImageError> {
        let base = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/"))
                .map_err(|source| ImageError::Registry { registry: host.to_owned(), source })
        };
        let (secure, plain) = (base("https")?, base("http")?);
        let candidates = if is_loopback(&plain) { vec![plain, secure] } else { vec![secure] };
        let mut failure = None;
        for base in candidates {
            match ping(http, &base, Trust::Verified).await {
                Ok(challenge) => return Ok(Self { base, trust: Trust::Verified, challenge, name: host.to_owned() }),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.map_or_else(|| ImageError::NoEndpoint { registry: host.to_owned() }, ImageError::from))
    }

    /// The URL of something in the repository, such as `manifests/latest`.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}/{rest}", self.base.path(), repository.path()));
        url
    }

    /// Whether requests to `url` go to this registry, and so may carry what proves who asks.
    pub(super) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

fn candidates(
    http: &Http,
    repository: &Repository,
    direction: Direction,
    insecure: bool,
) -> Result<(String, Vec<Candidate>), ImageError> {
    let name = repository.registry();
    let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
    let base = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|source| ImageError::Registry { registry: name.to_owned(), source })
    };
    let secure = base("https")?;
    // Docker Hub is reached under another name than people write.
    let mirrors = &http.settings().mirrors;
    let written = Url::parse(&format!("https://{name}/v2/")).unwrap_or_else(|_| secure.clone());
    let mirror = [&secure, &written].into_iter().map(|url| (url, mirrors.rewrite(url))).find(|(url, to)| *url != to);
    if let Some((_, mirror)) = mirror.filter(|_| direction == Direction::Pull) {
        // Its own credentials, not those of the registry it stands in for.
        let host = mirror.host_str().unwrap_or_default();
        let name = mirror.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        return Ok((name, vec![Candidate { base: mirror, trust: Trust::Verified }]));
    }
    let trust = if insecure { Trust::Anyone } else { Trust::Verified };
    let mut candidates = vec![Candidate { base: secure, trust }];
    let plain = Candidate { base: base("http")?, trust };
    if is_loopback(&plain.base) {
        candidates.insert(0, plain);
    } else if insecure {
        candidates.push(plain);
    }
    Ok((name.to_owned(), candidates))
}

/// Asks whether this is a registry. Spec: OCI distribution-spec §Determining Support.
async fn ping(http: &Http, base: &Url, trust: Trust) -> Result<Option<Challenge>, HttpError> {
    let response = http.send(base, http.client(base, trust)?.get(base.clone())).await?;
    match response.status() {
        StatusCode::UNAUTHORIZED => Ok(challenge(response.headers())),
        // What a TLS server says to plain HTTP.
        StatusCode::BAD_REQUEST if base.scheme() == "http" => Err(status_error(base, response).await),
        status if is_transient(status) => Err(status_error(base, response).await),
        // Some registries answer nothing sensible here and work all the same.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HttpSettings, Mirrors};

    fn reached(http: &Http, repository: &str, direction: Direction, insecure: bool) -> (String, Vec<String>) {
        let repository = repository.parse().expect("a repository");
        let (name, candidates) = candidates(http, &repository, direction, insecure).expect("candidates");
        (name, candidates.iter().map(|candidate| candidate.base.to_string()).collect())
    }

    #[test]
    fn tls_is_left_out_only_where_that_is_safe_or_wished() {
        let http = Http::new(HttpSettings::default());
        let pull = |repository: &str, insecure| reached(&http, repository, Direction::Pull, insecure).1;
        assert_eq!(pull("debian", false), ["https://registry-1.docker.io/v2/"]);
        assert_eq!(pull("ghcr.io/a/b", false), ["https://ghcr.io/v2/"]);
        assert_eq!(pull("r.example:5000/b", true), ["https://r.example:5000/v2/", "http://r.example:5000/v2/"]);
        for local in ["127.0.0.1:5000", "127.1.2.3:5000", "localhost:5000", "[::1]:5000"] {
            let candidates = pull(&format!("{local}/x"), false);
            assert_eq!(candidates, [format!("http://{local}/v2/"), format!("https://{local}/v2/")]);
        }
        assert_eq!(pull("127.0.0.1.example.org/x", false), ["https://127.0.0.1.example.org/v2/"]);
    }

    #[test]
    fn a_mirror_is_pulled_from_with_its_own_name() {
        for prefix in ["https://registry-1.docker.io/v2/", "https://docker.io/v2/"] {
            let pair = (prefix.to_owned(), "http://127.0.0.1:5001/v2/hub/".to_owned());
            let mirrors = Mirrors::new([pair]).expect("good mirrors");
            let http = Http::new(HttpSettings { mirrors, ..HttpSettings::default() });
            let (name, candidates) = reached(&http, "debian", Direction::Pull, false);
            assert_eq!(name, "127.0.0.1:5001");
            assert_eq!(candidates, ["http://127.0.0.1:5001/v2/hub/"]);
            let (name, candidates) = reached(&http, "debian", Direction::Push, false);
            assert_eq!((name.as_str(), candidates.len()), ("docker.io", 1));
            assert_eq!(candidates[0], "https://registry-1.docker.io/v2/");
        }
    }
}
