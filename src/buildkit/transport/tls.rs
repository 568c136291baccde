//! TLS to builders, with certificates on both sides where that is wanted.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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
            Ok(stream) => Ok(Box::new(Explained { stream, failed: None })),
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

/// A TLS stream whose writes fail for the reason the other side gives. It closes the connection after it has said why,
/// and a write may notice the one before a read has seen the other.
struct Explained {
    stream: TlsStream<TcpStream>,
    failed: Option<io::Error>,
}

impl Explained {
    /// Why a write failed: what the other side said last, or else the failure itself. What it said before is of no use.
    fn poll_reason(&mut self, cx: &mut Context<'_>, failed: io::Error) -> Poll<io::Error> {
        let mut room = [0; 4096];
        loop {
            let mut said = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut said) {
                Poll::Ready(Ok(())) if !said.filled().is_empty() => {}
                Poll::Ready(Ok(())) => return Poll::Ready(failed),
                Poll::Ready(Err(reason)) => return Poll::Ready(reason),
                // The connection is closed, so there is an end to be read; it has only not been looked for.
                Poll::Pending => {
                    self.failed = Some(failed);
                    return Poll::Pending;
                }
            }
        }
    }

    fn explain<T>(&mut self, cx: &mut Context<'_>, written: io::Result<T>) -> Poll<io::Result<T>> {
        match written {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Poll::Ready(Err(ready!(self.poll_reason(cx, error))))
            }
            written => Poll::Ready(written),
        }
    }
}

impl AsyncRead for Explained {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Explained {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self.failed.take() {
            Some(failed) => Err(failed),
            None => ready!(Pin::new(&mut self.stream).poll_write(cx, buf)),
        };
        self.explain(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match self.failed.take() {
            Some(failed) => Err(failed),
            None => ready!(Pin::new(&mut self.stream).poll_flush(cx)),
        };
        self.explain(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
