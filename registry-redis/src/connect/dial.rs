//! Connects to one server: TCP or TLS, login, database.

use super::address::Address;
use super::link::{Link, Traffic};
#[cfg(feature = "tls")]
use super::tls;
use crate::error::StoreError;
use futures_util::future::select_ok;
use registry_core::{Error, ErrorKind, Result, Secret, Target};
use std::io;
use std::sync::Arc;
use tokio::net::{TcpStream, lookup_host};

/// The credentials, the database and the TLS files of connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
    /// The URL whose options name the TLS files, if the servers use TLS.
    pub(crate) tls: Option<Arc<Target>>,
}

impl Dialer {
    /// Connects, logs in, selects the database and names the connection. The caller sets the deadline.
    pub(crate) async fn dial(&self, address: &Address, name: &str) -> Result<Link, StoreError> {
        let traffic = Arc::new(Traffic::new());
        let link = Box::pin(self.link(address, name, &traffic)).await;
        link.map_err(|error| traffic.explain(error).at(address))
    }

    /// Explains a deadline during connecting with TLS: a plain-text server waits for more of the handshake.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Deadline(limit) if self.tls.is_some() => StoreError::NoHandshake(limit),
            error => error,
        }
    }

    async fn link(
        &self,
        address: &Address,
        name: &str,
        traffic: &Arc<Traffic>,
    ) -> Result<Link, StoreError> {
        let stream = connect(address).await?;
        let link = match &self.tls {
            None => Link::over(stream, traffic.clone()).await?,
            Some(target) => secured(target, address, stream, traffic).await?,
        };
        let mut login = redis::pipe();
        if self.user.is_some() || self.password.is_some() {
            let password = self.password.as_ref().map_or("", Secret::reveal);
            login.cmd("AUTH").arg(&self.user).arg(password).ignore();
        }
        if self.database != 0 {
            login.cmd("SELECT").arg(self.database).ignore();
        }
        login.cmd("CLIENT").arg("SETNAME").arg(name).ignore();
        let outcome = login.exec_async(&mut link.requests()).await.map_err(StoreError::from);
        match outcome {
            Ok(()) => Ok(link),
            Err(error) if error.is_io() && self.tls.is_none() && !traffic.has_received() => {
                Err(StoreError::ClosedUnanswered)
            }
            Err(error) => Err(error),
        }
    }
}

/// Connects to the first address of a host that accepts.
async fn connect(address: &Address) -> io::Result<TcpStream> {
    let found: Vec<_> = lookup_host((address.host(), address.port())).await?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (stream, _) =
        select_ok(found.into_iter().map(|at| Box::pin(TcpStream::connect(at)))).await?;
    // Nagle's algorithm would delay a call while another is in flight.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(feature = "tls")]
async fn secured(
    target: &Arc<Target>,
    address: &Address,
    stream: TcpStream,
    traffic: &Arc<Traffic>,
) -> Result<Link, StoreError> {
    let stream = tls::connect(target, address, stream).await?;
    Ok(Link::over(stream, traffic.clone()).await?)
}

/// Never called, since a URL with TLS is refused earlier.
#[cfg(not(feature = "tls"))]
#[expect(clippy::unused_async, reason = "same signature as with the feature")]
async fn secured(
    _: &Arc<Target>,
    _: &Address,
    _: TcpStream,
    _: &Arc<Traffic>,
) -> Result<Link, StoreError> {
    Err(StoreError::NotTls)
}

/// Parses the database in the path of a URL, 0 by default.
pub(super) fn parse_database(path: &str) -> Result<u32> {
    if path.is_empty() {
        return Ok(0);
    }
    path.parse().map_err(|_| {
        let message = format!("the database in the path must be a number, got=`{path}`");
        Error::new(ErrorKind::Invalid, message)
    })
}
