//! The address that a server listens on.

use super::error::invalid;
use crate::{Address, Error, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use tokio::net::TcpListener;

/// The length of the accept queue: tokio's default.
const BACKLOG: i32 = 1024;

/// The address that a server listens on: `host:port`.
///
/// A missing host, as in `:8080`, means `0.0.0.0`. Port 0 lets the system choose a port.
///
/// ```
/// use service_registry::advertise::ListenOn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listen_on: ListenOn = ":0".parse()?;
/// assert_eq!(listen_on.to_string(), "0.0.0.0:0");
/// let listener = listen_on.bind().await?; // on IPv4, and on IPv6 if the system supports it
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOn {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// All interfaces: an unspecified address.
    Any(IpAddr),
    /// A specific address without brackets, or a host name.
    One(String),
}

impl ListenOn {
    /// Binds a listener as Go does: `0.0.0.0:8080`, `:8080` and `[::]:8080` listen on both IPv4 and IPv6.
    ///
    /// Without IPv6 on the system, `0.0.0.0:8080` and `:8080` listen on IPv4 only. On a listener for both families, the
    /// address of a caller over IPv4 has the form `::ffff:10.0.0.5`.
    ///
    /// # Errors
    ///
    /// Those of the system, such as `AddrInUse`. A listener on both families needs the port free on both.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        let ip = match &self.host {
            Host::Any(ip) => ip,
            Host::One(host) => return TcpListener::bind((host.as_str(), self.port)).await,
        };
        match bind_both(self.port) {
            Err(error) if !is_taken(&error) && ip.is_ipv4() => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).await
            }
            bound => bound,
        }
    }
}

impl FromStr for ListenOn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message =
                "the address to listen on is not `host:port` (an IPv6 host in brackets) or `:port`";
            invalid(format!("{message}, got=`{}`", text.escape_debug()))
        };
        let HostPort { host, port } = HostPort::parse(text).ok_or_else(wrong)?;
        let port = port.ok_or_else(wrong)?;
        let host = match host.parse::<IpAddr>() {
            _ if host.is_empty() => Host::Any(Ipv4Addr::UNSPECIFIED.into()),
            Ok(ip) if ip.is_unspecified() => Host::Any(ip),
            _ => {
                // Checks the host alone: any valid port will do.
                Address::new(with_port(&host, 1))?;
                Host::One(host)
            }
        };
        Ok(Self { host, port })
    }
}

impl From<SocketAddr> for ListenOn {
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip();
        let host = if ip.is_unspecified() { Host::Any(ip) } else { Host::One(ip.to_string()) };
        Self { host, port: address.port() }
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match &self.host {
            Host::Any(ip) => with_port(&ip.to_string(), self.port),
            Host::One(host) => with_port(host, self.port),
        })
    }
}

/// Binds on IPv4 and IPv6, whatever the system's default for a listener on `[::]`.
fn bind_both(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    // As tokio does: otherwise a restart fails while old connections linger. The option has another meaning on Windows.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Returns whether the port itself cannot be bound. Then `bind` does not fall back to IPv4 only: the server would share
/// its port with another server by accident.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// A host without brackets, and an optional port.
#[derive(Clone, Debug)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl HostPort {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Some(Self { host: text.to_owned(), port: None });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (v6, port) = rest.split_once(']')?;
                v6.parse::<Ipv6Addr>().ok()?;
                (v6, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) if !port.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        Some(Self { host: host.to_owned(), port })
    }
}

/// Returns `host:port` for a host without brackets.
pub(super) fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
