//! How a server is spoken to: plain or over TLS.

use std::io;

use tokio::net::TcpStream;

use super::exchange::talk;
use super::kind::Kind;
#[cfg(feature = "tls")]
use super::tls::{ClientIdentity, ServerTls};

/// How a server is spoken to.
#[derive(Clone, Debug, Default)]
pub(super) enum Wire {
    #[default]
    Plain,
    #[cfg(feature = "tls")]
    Tls(ServerTls),
}

impl Wire {
    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "https",
        }
    }

    /// The URL for a store: with TLS the scheme ends in `s`, as in `etcds` and `rediss`.
    pub(super) fn url(&self, kind: &Kind, address: &str) -> String {
        format!("{}://{address}", self.scheme().replace("http", kind.name))
    }

    /// Sends a request and reads until the server hangs up.
    pub(super) async fn exchange(&self, address: &str, request: &str) -> io::Result<String> {
        match self {
            Self::Plain => talk(TcpStream::connect(address).await?, request).await,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.exchange(ClientIdentity::Known, address, request).await,
        }
    }
}
