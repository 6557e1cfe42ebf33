//! The addresses of servers.

use registry_core::{Error, ErrorKind, Host, Result, Target};
use std::fmt;
use std::sync::Arc;

/// A host and a port. A clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address(Arc<(String, u16)>);

impl Address {
    /// An IPv6 host must have no brackets.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self(Arc::new((host.into(), port)))
    }

    /// Returns the address of a host of a URL.
    pub(super) fn of(host: &Host, default_port: u16) -> Self {
        Self::new(host.name(), host.port().unwrap_or(default_port))
    }

    /// Returns the addresses of all hosts of a URL, at least one.
    pub(super) fn all_of(target: &Target, default_port: u16) -> Result<Vec<Self>> {
        if target.hosts().is_empty() {
            let message = format!("{}:// needs at least one host", target.scheme());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(target.hosts().iter().map(|host| Self::of(host, default_port)).collect())
    }

    pub(crate) fn host(&self) -> &str {
        &self.0.0
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.1
    }

    /// Parses the `host:port` of a redirect from the node `from`. A node that does not know its own host
    /// omits it or writes `?`, which means the host of `from`.
    pub(super) fn parse_redirect(text: &str, from: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self::new(if matches!(bare, "" | "?") { from.host() } else { bare }, port))
    }
}

/// Writes a list of addresses as in a URL.
pub(super) fn write_list(addresses: &[Address], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, address) in addresses.iter().enumerate() {
        write!(f, "{}{address}", if n == 0 { "" } else { "," })?;
    }
    Ok(())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = &*self.0;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_without_a_host_means_the_host_that_sent_it() {
        let from = Address::new("10.0.0.1", 7000);
        let cases = [
            ("10.0.0.2:7001", "10.0.0.2:7001"),
            (":7001", "10.0.0.1:7001"),
            ("?:7001", "10.0.0.1:7001"),
            ("node-2.example:7001", "node-2.example:7001"),
            ("2001:db8::2:7001", "[2001:db8::2]:7001"),
            ("[2001:db8::2]:7001", "[2001:db8::2]:7001"),
        ];
        for (text, address) in cases {
            assert_eq!(
                Address::parse_redirect(text, &from).unwrap().to_string(),
                address,
                "{text}"
            );
        }
        for bad in ["", "10.0.0.2", "10.0.0.2:", "10.0.0.2:x", "10.0.0.2:70000"] {
            assert!(Address::parse_redirect(bad, &from).is_none(), "{bad}");
        }
    }
}
