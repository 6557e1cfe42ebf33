//! TLS with the files that a URL names.

use super::problem::{Problem, of_tls};
use registry_core::{Error, ErrorKind, Result, Target, TlsFiles};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The ALPN protocol of HTTP/2.
const HTTP2: &[u8] = b"h2";

/// The TLS options of a URL. The files are read for each connection, so a renewed certificate needs no restart.
#[derive(Clone)]
pub(super) struct Tls(Arc<Target>);

impl Tls {
    pub(super) fn of(target: &Target) -> Option<Self> {
        (target.scheme() == "etcds").then(|| Self(Arc::new(target.clone())))
    }

    /// Checks the files.
    pub(super) async fn check(&self) -> Result<()> {
        self.config().await.map(drop)
    }

    /// Reads the files, on a thread for blocking calls.
    async fn config(&self) -> Result<ClientConfig> {
        let target = self.0.clone();
        let read = spawn_blocking(move || config(&target)).await;
        read.unwrap_or_else(|_| {
            Err(invalid("cannot read the TLS files: the runtime is shutting down"))
        })
    }

    /// Makes the TLS handshake with `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Problem> {
        let config = self.config().await;
        let config = config.map_err(|error| Problem::Files(error.chain().to_string()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.0.option("server_name").unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            Problem::Handshake("`server_name` must be a DNS name or an IP address".to_owned())
        })?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let stream =
            connected.map_err(|error| of_tls(&error).unwrap_or(Problem::ClosedInHandshake))?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(Problem::Unknown);
        }
        Ok(stream)
    }
}

/// Reads the TLS configuration. Without `ca` the system's roots are trusted, otherwise only `ca`.
fn config(target: &Target) -> Result<ClientConfig> {
    let files = TlsFiles::read(target)?;
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => roots.add_parsable_certificates(certificates("ca", ca)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    // The provider is passed explicitly, so that none is installed for the whole process.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("TLS is not available").with_source(error))?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
                invalid("option `key` must name a PEM file with a private key").with_source(error)
            })?;
            builder.with_client_auth_cert(certificates("cert", certificate)?, key).map_err(
                |error| {
                    invalid("`cert` and `key` must be a certificate and its private key")
                        .with_source(error)
                },
            )?
        }
    };
    if target.option("verify").is_some() {
        config.dangerous().set_certificate_verifier(Arc::new(AnyServer));
    }
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

/// A verifier that accepts any certificate, for `verify=none`. It still checks that the server has the private key.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.map_err(|error| {
        invalid(format!("option `{option}` must name a PEM file with certificates"))
            .with_source(error)
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
