//! A server's own language over a bare stream, so that the kit needs no client of any.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Kind;
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

/// Sends a request over a stream that stands, and reads until the server hangs up.
pub(super) async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<String> {
    const LIMIT: u64 = 64 * 1024;
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(LIMIT).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
