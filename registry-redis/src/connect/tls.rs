//! TLS. The files are read for each connection, since certificates are replaced while a process runs.

use super::address::Address;
use crate::error::StoreError;
use registry_core::{Error, ErrorKind, Target, TlsFiles};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes a TLS connection over `stream`, with the files that the options of `target` name.
pub(super) async fn connect(
    target: &Arc<Target>,
    address: &Address,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, StoreError> {
    let name = ServerName::try_from(address.host().to_owned()).map_err(|_| {
        invalid(format!(
            "the host must be a valid name or IP address for TLS, got=`{}`",
            address.host()
        ))
    })?;
    let target = target.clone();
    // Files are read on a blocking thread. The task fails if it panics or the runtime shuts down.
    let config = spawn_blocking(move || config(&target)).await;
    let config =
        config.map_err(|_| StoreError::from(io_error("the runtime is shutting down")))??;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| refusal(&error).unwrap_or_else(|| StoreError::from(error)))
}

/// Returns the problem of certificates or port behind a failed handshake or read.
pub(super) fn refusal(error: &io::Error) -> Option<StoreError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(StoreError::Untrusted(format!("{why}"))),
        rustls::Error::AlertReceived(alert) => {
            Some(StoreError::CertificateRefused(format!("{alert:?}")))
        }
        rustls::Error::InvalidMessage(_) => Some(StoreError::NotTls),
        _ => None,
    }
}

fn config(target: &Target) -> Result<ClientConfig, StoreError> {
    let files = TlsFiles::read(target).map_err(StoreError::Unusable)?;
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(pem) => {
            for certificate in certificates("ca", pem)? {
                roots.add(certificate).map_err(|error| unusable("ca", error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    // The provider is passed explicitly, since the application may install another one.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("ca", error))?
        .with_root_certificates(roots);
    Ok(match files.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable("key", error))?;
            let chain = certificates("cert", &certificate)?;
            config.with_client_auth_cert(chain, key).map_err(|error| unusable("cert", error))?
        }
    })
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.map_err(|error| unusable(option, error))
}

fn unusable(option: &str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    let message = format!("option `{option}` names a file that cannot be used for TLS");
    StoreError::Unusable(Error::new(ErrorKind::Invalid, message).with_source(source))
}

fn invalid(message: String) -> StoreError {
    StoreError::Unusable(Error::new(ErrorKind::Invalid, message))
}

fn io_error(message: &'static str) -> io::Error {
    io::Error::other(message)
}
