//! TLS for the clients of a server, with certificates made for one test.

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

/// What the certificates of a server hold for: where the fixtures listen.
const SERVER_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// Certificates for a server and its clients, and some of strangers, as PEM files.
///
/// A clone is the same; the files are removed with the last one, servers that use them included.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Files>);

#[derive(Debug)]
struct Files {
    folder: TempDir,
    checks_clients: bool,
}

/// Who calls a server with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientIdentity {
    /// One with a certificate that the right CA signed: the server's own, since etcd's gateway
    /// takes none that names a user once authentication is on.
    Known,
    /// One without a certificate.
    Anonymous,
    /// One with a certificate that another CA signed.
    Stranger,
    /// One that trusts another CA only.
    Distrustful,
}

impl ServerTls {
    /// For a server that takes any client.
    pub fn generate() -> Result<Self, ServerError> {
        Self::with(false)
    }

    /// For a server that takes only clients with a certificate.
    pub fn mutual() -> Result<Self, ServerError> {
        Self::with(true)
    }

    /// The certificate of the CA that signed the server's and the client's.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The client's certificate. To an etcd with authentication it names the user `app`.
    pub fn client_certificate(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The key of the client's certificate.
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// The certificate of another CA: who trusts only this must refuse the server.
    pub fn other_ca(&self) -> PathBuf {
        self.file("other-ca.pem")
    }

    /// A client's certificate that the other CA signed: a server that checks must refuse it.
    pub fn other_client_certificate(&self) -> PathBuf {
        self.file("other-client.pem")
    }

    /// The key of the other client's certificate.
    pub fn other_client_key(&self) -> PathBuf {
        self.file("other-client.key")
    }

    /// Sends a request to `host:port` as `identity`, and reads until the server hangs up.
    ///
    /// # Errors
    ///
    /// Where one side refuses the other's certificate, too.
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
        // A server that takes no anonymous client says so only after the handshake (TLS 1.3).
        talk(connector.connect(name, stream).await?, request).await
    }

    /// The server's own certificate.
    pub(super) fn server_certificate(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The key of the server's certificate.
    pub(super) fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// Whether clients without a certificate are refused.
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

    /// Makes all of the files.
    fn write(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (ca, other) = (authority("registry-test")?, authority("registry-test other")?);
        fs::write(self.ca(), ca.pem())?;
        fs::write(self.other_ca(), other.pem())?;
        // etcd calls itself with the server's certificate, and takes a common name for a user's:
        // the server has none.
        let mut server = CertificateParams::new(SERVER_NAMES.map(str::to_owned))?;
        server.distinguished_name = DistinguishedName::new();
        self.sign(&ca, "server", server)?;
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "app");
        self.sign(&ca, "client", client.clone())?;
        self.sign(&other, "other-client", client)
    }

    /// Makes a key and a certificate for it.
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

    /// A client's settings.
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

/// A CA that signs itself.
fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
