//! Where a server listens.

use std::fmt;
use std::sync::Arc;

/// A host and a port. A clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address(Arc<(String, u16)>);

impl Address {
    /// An IPv6 host is without brackets.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self(Arc::new((host.into(), port)))
    }

    pub(crate) fn host(&self) -> &str {
        &self.0.0
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.1
    }

    /// The address in a redirection that `from` sent: `host:port`. A node that does not know its own name
    /// leaves the host out, or says `?`: then it is that of `from`.
    pub(crate) fn redirected(text: &str, from: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self::new(if matches!(bare, "" | "?") { from.host() } else { bare }, port))
    }
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
    fn a_redirection_names_a_host_or_means_the_one_that_sent_it() {
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
            assert_eq!(Address::redirected(text, &from).unwrap().to_string(), address, "{text}");
        }
        for bad in ["", "10.0.0.2", "10.0.0.2:", "10.0.0.2:x", "10.0.0.2:70000"] {
            assert!(Address::redirected(bad, &from).is_none(), "{bad}");
        }
    }
}
