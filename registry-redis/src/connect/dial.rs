//! How a server is dialled: who we are to it, and what protects the way.

use super::Address;
use crate::error::Fault;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use registry_core::Secret;

/// Who we are to a server, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
    pub(crate) tls: Option<Certificates>,
}

/// Whom to trust, and who we are.
#[cfg(feature = "tls")]
pub(crate) type Certificates = redis::TlsCertificates;

/// TLS is not built in, so there are none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub(crate) enum Certificates {}

impl Dialer {
    /// Connects, logs in, and says who we are.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        name: &str,
    ) -> Result<MultiplexedConnection, Fault> {
        // Deadlines are ours. The client's own, of 500 ms, would end every blocking read, and leave
        // the connection to a server that still blocks.
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

    fn client(&self, address: &Address) -> Result<Client, Fault> {
        if let Some(certificates) = &self.tls {
            return secured(address, certificates);
        }
        let plain = ConnectionAddr::Tcp(address.host().to_owned(), address.port());
        Ok(Client::open(settled(plain.into_connection_info()?))?)
    }
}

#[cfg(feature = "tls")]
fn secured(address: &Address, certificates: &Certificates) -> Result<Client, Fault> {
    let (host, port) = (address.host().to_owned(), address.port());
    let secured = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    let info = settled(secured.into_connection_info()?);
    Ok(Client::build_with_tls(info, certificates.clone())?)
}

#[cfg(not(feature = "tls"))]
fn secured(_: &Address, certificates: &Certificates) -> Result<Client, Fault> {
    match *certificates {}
}

fn settled(info: ConnectionInfo) -> ConnectionInfo {
    // The client leaves Nagle's algorithm on, which holds back calls made while one is under way.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    // It would also log in on its own, and call every refusal a wrong password, even that the server
    // has too many clients: `dial` logs in instead.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    info.set_redis_settings(settings)
}
