//! Service names, instance ids and addresses: checked once when they are parsed.

pub(crate) mod reserved;

use crate::metadata::JsonStr;
use crate::{Error, ErrorKind, LeaseId, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The maximum length of a service name or instance id, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// Declares a type of checked text that is cheap to clone. Short texts are stored inline, so comparisons in ordered
/// maps follow no pointer.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks and wraps `text`.
            ///
            /// # Errors
            ///
            /// `Invalid` if `text` is malformed. The message names the value and what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(why) => Err(Error::new(ErrorKind::Invalid, format!("{why}, got=`{text}`"))),
                }
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = Error;

            fn try_from(name: &$name) -> Result<Self> {
                Ok(name.clone())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let JsonStr(text) = JsonStr::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text! {
    /// The name of a service, such as `user.rpc` or `prod/order.rpc`.
    ///
    /// It has 1 to 255 bytes without control characters. It may contain `/`, but not at the start or the end. Services
    /// with a common prefix are separate: none sees the instances of another.
    ServiceName, check_service_name
}

impl ServiceName {
    /// Splits a key that other programs chose, such as go-zero's `Etcd.Key`, into its leading slashes and a service
    /// name.
    ///
    /// The slashes belong into the path of the store's URL: `/grpc/user.rpc` is the service `grpc/user.rpc` of
    /// `etcd://host//?layout=go-zero`.
    ///
    /// ```
    /// use registry_core::ServiceName;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let (slashes, service) = ServiceName::from_key("/grpc/user.rpc")?;
    /// assert_eq!((slashes, service.as_str()), ("/", "grpc/user.rpc"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if the rest is not a valid service name, such as for an empty key or one that ends with `/`.
    pub fn from_key(key: &str) -> Result<(&str, Self)> {
        let service = key.trim_start_matches('/');
        let (slashes, _) = key.split_at(key.len() - service.len());
        Ok((slashes, Self::new(service)?))
    }
}

text! {
    /// The id of an instance, unique within its service.
    ///
    /// It has 1 to 255 bytes without control characters and without `/`.
    InstanceId, check_instance_id
}

text! {
    /// The address that callers of an instance dial: `host:port`.
    ///
    /// The host is an IPv4 address, an IPv6 address in brackets, or a host name. The port is 1 to 65535. Unspecified
    /// addresses (`0.0.0.0`, `[::]`) are refused, since publishing one is always a mistake.
    Address, check_address
}

impl InstanceId {
    /// Returns a random id: a positive decimal number, which is valid in every layout of every store.
    pub fn random() -> Self {
        Self(LeaseId::random().to_string().into())
    }
}

/// Accepts any address, even an unspecified one or port 0; [`Instance::check`](crate::Instance::check) refuses those.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl Address {
    /// Reads a stored address. It accepts any `host:port` whose parts can be separated, so that stricter checks in
    /// [`new`](Self::new) do not make stored records undecodable. Returns `None` for any other text.
    pub fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let unspecified = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let legible = (1..=253).contains(&address.len()) && !host.chars().any(char::is_control);
        (port.is_some() && legible && !unspecified).then(|| Self(text.into()))
    }

    /// Returns whether others can dial the address: its host is not unspecified, and its port is not 0.
    pub fn is_dialable(&self) -> bool {
        // Only the conversion from a `SocketAddr` creates such addresses, and it always formats them in this way.
        !(self.0.starts_with("0.0.0.0:") || self.0.starts_with("[::]:") || self.0.ends_with(":0"))
    }

    /// Returns the host without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(&*self.0, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        let port = self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or_else(|| unreachable!("the port was checked at construction"))
    }
}

fn check_service_name(name: &str) -> Result<(), &'static str> {
    check_name(name)?;
    if name.starts_with('/') || name.ends_with('/') {
        return Err("the service name starts or ends with `/`");
    }
    Ok(())
}

fn check_instance_id(id: &str) -> Result<(), &'static str> {
    check_name(id)?;
    if id.contains('/') {
        return Err("the instance id contains `/`");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name is empty");
    }
    if name.len() > MAX_NAME_LEN {
        return Err("the name is longer than 255 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("the name contains control characters");
    }
    Ok(())
}

fn check_address(address: &str) -> Result<(), &'static str> {
    const FORM: &str =
        "the address is not `host:port` (an IPv6 host in brackets, the port 1 to 65535)";
    const UNROUTABLE: &str = "the address is unspecified: others cannot dial it";
    let (host, port) = address.rsplit_once(':').ok_or(FORM)?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !digits || !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(FORM);
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let v6: Ipv6Addr = v6.parse().map_err(|_| FORM)?;
        return if v6.is_unspecified() { Err(UNROUTABLE) } else { Ok(()) };
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return if v4.is_unspecified() { Err(UNROUTABLE) } else { Ok(()) };
    }
    // Digits and dots only: a malformed IPv4 address rather than a host name.
    if host.contains('.') && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(FORM);
    }
    // RFC 1123 names, and `_`, which container networks allow.
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let named = (1..=253).contains(&host.len()) && host.bytes().all(legal);
    if named { Ok(()) } else { Err(FORM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_may_nest_and_ids_may_not() {
        for good in ["user.rpc", "prod/order.rpc", "a", "a b", "\u{e9}", &"x".repeat(255)] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "/a", "a/", "/", "a\n", "a\u{0}", "a\u{85}", &"x".repeat(256)] {
            assert_eq!(ServiceName::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
        assert!(InstanceId::new("a/b").is_err());
        assert!(InstanceId::new("7587862094070025734").is_ok());
    }

    #[test]
    fn a_key_is_leading_slashes_and_a_name() {
        for (key, slashes, name) in [("a/b", "", "a/b"), ("/a", "/", "a"), ("//a//b", "//", "a//b")]
        {
            assert_eq!(ServiceName::from_key(key).unwrap(), (slashes, name.parse().unwrap()));
        }
        for bad in ["", "/", "a/", "/a/"] {
            let error = ServiceName::from_key(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_value_and_what_is_wrong() {
        let error = InstanceId::new("a/b").unwrap_err();
        assert_eq!(error.to_string(), "the instance id contains `/`, got=`a/b`");
    }

    #[test]
    fn malformed_and_unspecified_addresses_are_refused() {
        let good = ["10.0.0.1:80", "[::1]:65535", "db-1.prod:1", "localhost:8080", "my_host:1"];
        for good in good {
            assert_eq!(Address::new(good).unwrap().to_string(), good);
        }
        let bad = [
            "",
            "host",
            ":80",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:80",
            "[::1]",
            "0.0.0.0:80",
            "[::]:80",
            "[host]:80",
            "a b:80",
            "http://a:80",
            "999.1.1.1:80",
            "10.0.0:80",
            "1.:80",
        ];
        for bad in bad {
            assert_eq!(Address::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
        let address = Address::new("[fe80::1]:81").unwrap();
        assert_eq!((address.host(), address.port()), ("fe80::1", 81));
    }

    #[test]
    fn a_stored_address_is_readable_if_it_has_a_host_and_a_port() {
        for good in ["10.0.0.1:80", "[::1]:65535", "a b:1", "999.1.1.1:80", "::1:80"] {
            let address = Address::read(good).unwrap();
            assert_eq!(address.to_string(), good);
            assert!(address.port() > 0 && !address.host().is_empty());
        }
        for bad in [
            "",
            "host",
            ":80",
            "[]:80",
            "host:",
            "host:0",
            "host:+1",
            "0.0.0.0:80",
            "[::]:1",
            "a\n:1",
        ] {
            assert_eq!(Address::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_when_deserialized() {
        assert!(serde_json::from_str::<ServiceName>("\"a/\"").is_err());
        let name: ServiceName = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
    }
}
