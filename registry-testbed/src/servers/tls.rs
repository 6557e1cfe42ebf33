//! TLS between clients and a server, with certificates that are generated for one test.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::ServerError;
use super::exchange::talk;
use super::folder;

/// The subject names of a server's certificate.
const SERVER_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// Certificates of a server, its clients and another CA, as PEM files.
///
/// Clones share the files, which are removed with the last clone. A server that uses them holds one.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Files>);

#[derive(Debug)]
struct Files {
    folder: TempDir,
    checks_clients: bool,
}

/// The identity of a TLS client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientIdentity {
    /// A client with a certificate of the right CA. It is the server's own certificate, since etcd's gateway
    /// refuses a certificate that names a user once authentication is enabled.
    Known,
    /// A client without a certificate.
    Anonymous,
    /// A client with a certificate of another CA.
    Stranger,
    /// A client that trusts only another CA.
    Distrustful,
}

impl ServerTls {
    /// Generates certificates for a server that accepts any client.
    pub fn generate() -> Result<Self, ServerError> {
        Self::with(false)
    }

    /// Generates certificates for a server that accepts only clients with a certificate.
    pub fn mutual() -> Result<Self, ServerError> {
        Self::with(true)
    }

    /// Returns the certificate of the CA that signed those of the server and the client.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Returns the client's certificate. To an etcd with authentication it names the user `app`.
    pub fn client_certificate(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// Returns the key of the client's certificate.
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// Returns the certificate of another CA. A client that trusts only this CA must refuse the server.
    pub fn other_ca(&self) -> PathBuf {
        self.file("other-ca.pem")
    }

    /// Returns a client certificate of the other CA. A server that checks its clients must refuse it.
    pub fn other_client_certificate(&self) -> PathBuf {
        self.file("other-client.pem")
    }

    /// Returns the key of the other client's certificate.
    pub fn other_client_key(&self) -> PathBuf {
        self.file("other-client.key")
    }

    /// Sends a request to `host:port` as `identity`, and reads until the server closes the connection.
    ///
    /// # Errors
    ///
    /// An IO error, also if either side refuses the other's certificate.
    pub async fn exchange(
        &self,
        identity: ClientIdentity,
        address: &str,
        request: &str,
    ) -> io::Result<String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(self.client(identity)?));
        let stream = TcpStream::connect(address).await?;
        // In TLS 1.3, a server refuses a client without a certificate only after the handshake.
        talk(connector.connect(name, stream).await?, request).await
    }

    /// Returns the server's certificate.
    pub(super) fn server_certificate(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// Returns the key of the server's certificate.
    pub(super) fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// Returns whether the server refuses clients without a certificate.
    pub(super) fn checks_clients(&self) -> bool {
        self.0.checks_clients
    }

    fn with(checks_clients: bool) -> Result<Self, ServerError> {
        let made = || {
            let folder = folder::create(None)?;
            let tls = Self(Arc::new(Files { folder, checks_clients }));
            tls.write().map_err(io::Error::other)?;
            Ok(tls)
        };
        made().map_err(ServerError::io("make certificates for a server"))
    }

    /// Generates all files.
    fn write(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (ca, other) = (authority("registry-test")?, authority("registry-test other")?);
        fs::write(self.ca(), ca.pem())?;
        fs::write(self.other_ca(), other.pem())?;
        // etcd calls itself with the server's certificate, and would take its common name for a user's. So it has
        // none.
        let mut server = CertificateParams::new(SERVER_NAMES.map(str::to_owned))?;
        server.distinguished_name = DistinguishedName::new();
        self.sign(&ca, "server", server)?;
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "app");
        self.sign(&ca, "client", client.clone())?;
        self.sign(&other, "other-client", client)
    }

    /// Generates a key and its certificate.
    fn sign(
        &self,
        ca: &CertifiedIssuer<'_, KeyPair>,
        name: &str,
        mut subject: CertificateParams,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        subject.extended_key_usages = vec![ServerAuth, ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = subject.signed_by(&key, ca)?;
        fs::write(self.file(&format!("{name}.pem")), certificate.pem())?;
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Returns the TLS configuration of a client.
    fn client(&self, identity: ClientIdentity) -> io::Result<ClientConfig> {
        let trusted =
            if identity == ClientIdentity::Distrustful { self.other_ca() } else { self.ca() };
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(trusted).map_err(io::Error::other)?;
        roots.add(trusted).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let (certificate, key) = match identity {
            ClientIdentity::Anonymous => return Ok(config.with_no_client_auth()),
            ClientIdentity::Stranger => (self.other_client_certificate(), self.other_client_key()),
            ClientIdentity::Known | ClientIdentity::Distrustful => {
                (self.server_certificate(), self.server_key())
            }
        };
        let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
        config.with_client_auth_cert(vec![certificate], key).map_err(io::Error::other)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.folder.path().join(name)
    }
}

/// Generates a self-signed CA.
fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
