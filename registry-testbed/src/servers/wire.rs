//! The transport of a server: plain or TLS.

use std::io;

use tokio::net::TcpStream;

use super::exchange::talk;
use super::kind::Kind;
#[cfg(feature = "tls")]
use super::tls::{ClientIdentity, ServerTls};

/// The transport of a server.
#[derive(Clone, Debug, Default)]
pub(super) enum Wire {
    #[default]
    Plain,
    #[cfg(feature = "tls")]
    Tls(ServerTls),
}

impl Wire {
    /// Returns `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "https",
        }
    }

    /// Returns the URL for a store. With TLS its scheme ends in `s`, as in `etcds` and `rediss`.
    pub(super) fn url(&self, kind: &Kind, address: &str) -> String {
        format!("{}://{address}", self.scheme().replace("http", kind.name))
    }

    /// Sends a request, and reads until the server closes the connection.
    pub(super) async fn exchange(&self, address: &str, request: &str) -> io::Result<String> {
        match self {
            Self::Plain => talk(TcpStream::connect(address).await?, request).await,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.exchange(ClientIdentity::Known, address, request).await,
        }
    }
}
