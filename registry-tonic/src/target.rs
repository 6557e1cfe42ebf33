//! The target of a channel: go-zero's targets, and the URLs of registries.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_core::{Address, Error, ErrorKind, Result, ServiceName, Target};
use std::fmt;
use std::str::FromStr;

/// The target of a channel, parsed from a URL.
///
/// | form | meaning |
/// | --- | --- |
/// | `etcd:///h1:2379,h2:2379?key=user.rpc` | a service of a go-zero fleet on etcd; the key is escaped as in a query |
/// | `etcd://h1:2379,h2:2379/user.rpc`, `discov://h1:2379/user.rpc` | the same, in the form before go-zero 1.10.2, which drops `/` at either end of the key |
/// | `direct:///10.0.0.1:8080,10.0.0.2:8080` | these addresses, always |
/// | `user-svc:8080`, `passthrough:///user-svc:8080`, `dns:///user-svc:8080` | this address. Each connection resolves the name and uses one of its addresses, while gRPC in Go uses all that `dns:///` finds. The default port of `dns:///` is 443 |
/// | the URL of a registry, with the option `service` | this service of this registry: `redis://h/0?prefix=prod&service=user.rpc` |
///
/// An `etcd://` URL with the option `service` is the URL of a registry: its path is a prefix, and its option
/// `layout` the layout. Without `service` it is a go-zero target, which may have a user and a password in front
/// of its hosts, and has no option but `key`. `Debug` and `Display` hide the password.
///
/// The forms follow go-zero's `zrpc/resolver/target.go` and `zrpc/resolver/internal/targets/endpoints.go`, and
/// gRPC. `k8s://` and `consul://` are rejected with an error that says what to use instead.
///
/// ```
/// use registry_tonic::ChannelTarget;
///
/// # fn main() -> registry_core::Result<()> {
/// let target: ChannelTarget = "etcd://h1:2379,h2:2379/user.rpc".parse()?;
/// assert_eq!(target.to_string(), "etcd:///h1:2379,h2:2379?key=user.rpc");
///
/// let target: ChannelTarget = "redis://h/0?prefix=prod&service=user.rpc".parse()?;
/// let ChannelTarget::Service { registry, service } = target else { panic!("it is a service") };
/// assert_eq!(registry.to_string(), "redis://h/0?prefix=prod");
/// assert_eq!(service.as_str(), "user.rpc");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // code that creates a channel must handle every kind
pub enum ChannelTarget {
    /// Addresses that never change.
    Direct(Vec<Address>),
    /// The instances of a registered service.
    Service {
        /// The registry.
        registry: Target,
        /// The name of the service.
        service: ServiceName,
    },
}

impl ChannelTarget {
    /// Returns the service that go-zero stores under `key` in the etcd at `hosts`. A user and a password
    /// may precede the hosts, as in a URL.
    fn go_zero(hosts: &str, key: &str) -> Result<Self> {
        let (slashes, service) = ServiceName::from_key(key).map_err(|error| {
            invalid("the key of a go-zero target must not be empty or end with `/`")
                .with_source(error)
        })?;
        if hosts.is_empty() || hosts.contains('/') {
            return Err(unknown_form());
        }
        let registry = format!("etcd://{hosts}/{slashes}?layout=go-zero").parse()?;
        Ok(Self::Service { registry, service })
    }
}

impl FromStr for ChannelTarget {
    type Err = Error;

    /// # Errors
    ///
    /// `Invalid` if the text has none of the forms above, or a part of it is invalid.
    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else { return parse_bare(text) };
        match scheme.to_ascii_lowercase().as_str() {
            "direct" => parse_direct(rest),
            "passthrough" => parse_address(rest),
            "dns" => parse_dns(rest),
            "discov" => parse_go_zero(rest),
            "etcd" if option(rest, "service").is_none() => parse_go_zero(rest),
            "k8s" => Err(unsupported_scheme(
                "k8s",
                "`dns:///service.namespace:port`, which connects to the address of the service, or a registry",
            )),
            other @ ("consul" | "nacos" | "polaris") => {
                Err(unsupported_scheme(other, "a registry on etcd or Redis"))
            }
            _ => parse_registry(text),
        }
    }
}

/// Parses a target without `//`: an address, or as in gRPC the name of a resolver, `:` and an address.
fn parse_bare(text: &str) -> Result<ChannelTarget> {
    let address = text.strip_prefix("passthrough:").unwrap_or(text);
    match address.strip_prefix("dns:") {
        Some(name) => parse_dns(&format!("/{name}")),
        None => Address::new(address).map(|address| ChannelTarget::Direct(vec![address])).map_err(
            // The error of `Address` shows the text, which may contain a password.
            |_| unknown_form(),
        ),
    }
}

/// Parses the address after the first `/`. The authority before it is ignored.
fn parse_address(rest: &str) -> Result<ChannelTarget> {
    let (_, address) = rest.split_once('/').ok_or_else(unknown_form)?;
    Ok(ChannelTarget::Direct(vec![Address::new(address)?]))
}

/// gRPC's default port of a name.
const DNS_PORT: u16 = 443;

fn parse_dns(rest: &str) -> Result<ChannelTarget> {
    let (server, name) = rest.split_once('/').ok_or_else(unknown_form)?;
    if !server.is_empty() {
        return Err(invalid(
            "a DNS server in the target is not supported, the system's resolver is used: write `dns:///name:port`",
        ));
    }
    let address = Address::new(name).or_else(|_| Address::new(format!("{name}:{DNS_PORT}")))?;
    Ok(ChannelTarget::Direct(vec![address]))
}

fn parse_direct(rest: &str) -> Result<ChannelTarget> {
    // As in go-zero, the authority before the path and empty items between commas are ignored.
    let (_, addresses) = rest.split_once('/').ok_or_else(|| {
        invalid("a direct target has three slashes before its addresses: `direct:///host:8080`")
    })?;
    let addresses = addresses.trim_matches('/').split(',').filter(|address| !address.is_empty());
    let addresses: Vec<_> = addresses.map(Address::new).collect::<Result<_>>()?;
    if addresses.is_empty() {
        return Err(unknown_form());
    }
    Ok(ChannelTarget::Direct(addresses))
}

/// Parses `hosts/key`, or `/hosts?key=key` if nothing precedes the first `/`.
fn parse_go_zero(rest: &str) -> Result<ChannelTarget> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut names = query.split('&').filter(|pair| !pair.is_empty()).map(name_of);
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if authority.is_empty() {
        if names.any(|name| name != "key") {
            return Err(invalid(
                "a go-zero target has no option but `key`: remove the others, go-zero ignores them",
            ));
        }
        let key = option(rest, "key").ok_or_else(unknown_form)?;
        // In a query `+` is a space.
        return ChannelTarget::go_zero(path.trim_matches('/'), &decode(&key.replace('+', " "))?);
    }
    if names.next().is_some() {
        return Err(invalid(
            "a go-zero target whose path is its key has no options: remove them, go-zero ignores them",
        ));
    }
    ChannelTarget::go_zero(authority, decode(path)?.trim_matches('/'))
}

fn parse_registry(url: &str) -> Result<ChannelTarget> {
    let mut registry: Target = url.parse()?;
    let service = registry.take_option("service").ok_or_else(unknown_form)?.parse()?;
    Ok(ChannelTarget::Service { registry, service })
}

/// Returns the first value of an option in a URL, still escaped.
fn option<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    let pair = query.split('&').find(|pair| name_of(pair) == name)?;
    Some(pair.split_once('=').map_or("", |(_, value)| value))
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| invalid("a percent-encoded target must decode to UTF-8"))?.into_owned())
}

/// Writes the form of go-zero 1.10.2 if go-zero can express the target, or else a URL. A password is hidden;
/// a target without a password parses back to itself.
impl fmt::Display for ChannelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(addresses) => {
                f.write_str("direct:///")?;
                for (n, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if n == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Service { registry, service } => {
                let url = registry.to_string();
                if let Some(hosts) = hosts_of_go_zero(registry, &url) {
                    let key = format!("{}{service}", registry.path());
                    return write!(f, "etcd:///{hosts}?key={}", escape(&key));
                }
                let separator = if url.contains('?') { '&' } else { '?' };
                write!(f, "{url}{separator}service={}", utf8_percent_encode(service.as_str(), KEY))
            }
        }
    }
}

/// Returns the user and hosts in the URL of a registry that a go-zero target can express.
fn hosts_of_go_zero<'a>(registry: &Target, url: &'a str) -> Option<&'a str> {
    let slashes = registry.path().bytes().all(|byte| byte == b'/');
    let hosts = url.strip_prefix("etcd://")?.strip_suffix("?layout=go-zero")?;
    Some(hosts.trim_end_matches('/')).filter(|hosts| slashes && !hosts.is_empty())
}

/// The characters that Go's `url.QueryEscape` escapes.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Escapes a key as Go's `url.QueryEscape` does.
fn escape(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string().replace("%20", "+")
}

fn unknown_form() -> Error {
    // The text is not shown: it may contain a password.
    invalid(
        "not a channel target: use `etcd:///host:2379?key=user.rpc`, `direct:///host:8080`, or the URL of a registry with a service, such as `redis://host/0?service=user.rpc`",
    )
}

fn unsupported_scheme(scheme: &str, instead: &str) -> Error {
    invalid(format!("`{scheme}://` targets are not supported: use {instead}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
