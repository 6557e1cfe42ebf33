//! Connects to one server: TCP or TLS, login, database.

use super::address::Address;
use crate::error::StoreError;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use registry_core::{Error, ErrorKind, Result, Secret};

/// The credentials, the database and the TLS files of connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
    pub(crate) tls: Option<Certificates>,
}

/// The authority to trust and the client's own certificate.
#[cfg(feature = "tls")]
pub(crate) type Certificates = redis::TlsCertificates;

/// Without TLS there are none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub(crate) enum Certificates {}

impl Dialer {
    /// Connects, logs in, selects the database and names the connection. The caller sets the deadline.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        name: &str,
    ) -> Result<MultiplexedConnection, StoreError> {
        // The response timeout of the redis crate, 500 ms, would end every blocking read and leave the
        // connection to a server that still blocks.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = self.client(address)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut login = redis::pipe();
        if self.user.is_some() || self.password.is_some() {
            let password = self.password.as_ref().map_or("", Secret::reveal);
            login.cmd("AUTH").arg(&self.user).arg(password).ignore();
        }
        if self.database != 0 {
            login.cmd("SELECT").arg(self.database).ignore();
        }
        login.cmd("CLIENT").arg("SETNAME").arg(name).ignore();
        login.exec_async(&mut connection).await?;
        Ok(connection)
    }

    fn client(&self, address: &Address) -> Result<Client, StoreError> {
        if let Some(certificates) = &self.tls {
            return secured(address, certificates);
        }
        let plain = ConnectionAddr::Tcp(address.host().to_owned(), address.port());
        Ok(Client::open(with_settings(plain.into_connection_info()?))?)
    }
}

#[cfg(feature = "tls")]
fn secured(address: &Address, certificates: &Certificates) -> Result<Client, StoreError> {
    let (host, port) = (address.host().to_owned(), address.port());
    let secured = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    let info = with_settings(secured.into_connection_info()?);
    Ok(Client::build_with_tls(info, certificates.clone())?)
}

#[cfg(not(feature = "tls"))]
fn secured(_: &Address, certificates: &Certificates) -> Result<Client, StoreError> {
    match *certificates {}
}

fn with_settings(info: ConnectionInfo) -> ConnectionInfo {
    // The redis crate leaves Nagle's algorithm on, which delays calls made while another is under way.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    // It would also log in on its own and report every refusal as a wrong password, even that the
    // server has too many clients: `dial` logs in instead.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    info.set_redis_settings(settings)
}

/// Parses the database in the path of a URL, 0 by default.
pub(super) fn parse_database(path: &str) -> Result<u32> {
    if path.is_empty() {
        return Ok(0);
    }
    path.parse().map_err(|_| {
        let message = format!("a database is a number or left out, got=`{path}`");
        Error::new(ErrorKind::Invalid, message)
    })
}
