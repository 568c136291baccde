//! TLS to builders, with certificates on both sides where that is wanted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{DialError, Stream};

/// Whose certificates count. What buildctl and buildx call `cacert`, `cert`, `key` and `servername`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the authorities that may have signed the builder's certificate; the system's where there is none.
    pub authority: Option<PathBuf>,
    /// PEM files with this side's certificate and its key, for builders that want to know who calls.
    pub identity: Option<Identity>,
    /// The name the builder's certificate is for, where it is not the host's.
    pub server_name: Option<String>,
}

/// This side's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Tls {
    /// Shakes hands over a stream.
    pub(super) async fn connect(
        &self,
        address: &str,
        host: &str,
        stream: TcpStream,
        protocol: &[u8],
    ) -> Result<Box<dyn Stream>, DialError> {
        let mut config = self.config(address)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        let fail = |source| DialError::Tls { address: address.to_owned(), source };
        let name = ServerName::try_from(self.server_name.as_deref().unwrap_or(host).to_owned());
        let name = name.map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(DialError::of_tls(address, &error).unwrap_or_else(|| fail(error))),
        }
    }

    fn config(&self, address: &str) -> Result<ClientConfig, DialError> {
        let fail =
            |source: rustls::Error| DialError::Tls { address: address.to_owned(), source: io::Error::other(source) };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(fail)?;
        let builder = builder.with_root_certificates(self.roots()?);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(unusable(key, "a private key"))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(unusable(certificate, "a certificate with that key"))?
            }
        };
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, DialError> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(unusable(path, "a certificate authority"))?;
                }
            }
            None => {
                // A bundle may hold certificates rustls cannot parse; the others still count.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let what = "a certificate";
    let read = CertificateDer::pem_file_iter(path).map_err(unusable(path, what))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(unusable(path, what))?;
    if certificates.is_empty() {
        return Err(unusable(path, what)(io::Error::new(io::ErrorKind::InvalidData, "it holds none")));
    }
    Ok(certificates)
}

fn unusable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    path: &Path,
    what: &'static str,
) -> impl FnOnce(E) -> DialError {
    let path = path.to_owned();
    move |source| DialError::Certificate { path, what, source: source.into() }
}
