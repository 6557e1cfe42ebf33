//! Whom a channel is to reach: go-zero's targets, and the URLs of registries.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_core::{Address, Error, ErrorKind, Result, ServiceName, Target};
use std::fmt;
use std::str::FromStr;

/// Whom a channel is to reach, parsed from a URL.
///
/// | form | what it means |
/// | --- | --- |
/// | `etcd:///h1:2379,h2:2379?key=user.rpc` | a service of a go-zero fleet on etcd; the key is escaped as a query is |
/// | `etcd://h1:2379,h2:2379/user.rpc`, `discov://h1:2379/user.rpc` | the same, as written before go-zero 1.10.2: `/` at either end of the key is lost |
/// | `direct:///10.0.0.1:8080,10.0.0.2:8080` | these addresses, always |
/// | `user-svc:8080`, `passthrough:///user-svc:8080`, `dns:///user-svc:8080` | this address. A name is resolved for each connection, and one of its addresses is called at a time: gRPC in Go calls all that `dns:///` finds. The port of `dns:///` is 443 unless stated |
/// | the URL of a registry, with the option `service` | that service of that registry: `redis://h/0?prefix=prod&service=user.rpc` |
///
/// With `service` an `etcd://` URL is a registry's own: its path is a prefix, and its layout the one that it
/// states. Without, it is go-zero's, and its path a key. A go-zero target may have a user and a
/// password in front of its hosts, and no option beside `key`. Neither `Debug` nor `Display` shows a
/// password.
///
/// The forms are those of go-zero's `zrpc/resolver/target.go` and
/// `zrpc/resolver/internal/targets/endpoints.go`, and of gRPC. `k8s://` and `consul://` are refused, and the error says
/// what to use.
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
#[allow(clippy::exhaustive_enums)] // who makes a channel handles every kind
pub enum ChannelTarget {
    /// Addresses that never change.
    Direct(Vec<Address>),
    /// Whoever is registered.
    Service {
        /// Where.
        registry: Target,
        /// As what.
        service: ServiceName,
    },
}

impl ChannelTarget {
    /// What go-zero finds under `key` in the etcd of `hosts`, which may have a user and a password in
    /// front, as in a URL.
    fn go_zero(hosts: &str, key: &str) -> Result<Self> {
        let (slashes, service) = ServiceName::from_key(key).map_err(|error| {
            invalid("a key is what instances stand under: not empty, and without `/` at its end")
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
    /// `Invalid`: no target has that form, or a part of it is not what it should be.
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
                "`dns:///service.namespace:port`, which goes by the address of the service, or a registry",
            )),
            other @ ("consul" | "nacos" | "polaris") => {
                Err(unsupported_scheme(other, "a registry on etcd or Redis"))
            }
            _ => parse_registry(text),
        }
    }
}

/// Without `//` it is an address, which gRPC lets stand behind the name of a resolver, too.
fn parse_bare(text: &str) -> Result<ChannelTarget> {
    let address = text.strip_prefix("passthrough:").unwrap_or(text);
    match address.strip_prefix("dns:") {
        Some(name) => parse_dns(&format!("/{name}")),
        None => Address::new(address).map(|address| ChannelTarget::Direct(vec![address])).map_err(
            // What was given may be anything, a password too.
            |_| unknown_form(),
        ),
    }
}

/// Behind the first `/` is the address. In front of it nothing counts.
fn parse_address(rest: &str) -> Result<ChannelTarget> {
    let (_, address) = rest.split_once('/').ok_or_else(unknown_form)?;
    Ok(ChannelTarget::Direct(vec![Address::new(address)?]))
}

/// The port that gRPC takes for a name without one.
const DNS_PORT: u16 = 443;

fn parse_dns(rest: &str) -> Result<ChannelTarget> {
    let (server, name) = rest.split_once('/').ok_or_else(unknown_form)?;
    if !server.is_empty() {
        return Err(invalid(
            "names are resolved as the system is set up, not by a server of one's own: use `dns:///name:port`",
        ));
    }
    let address = Address::new(name).or_else(|_| Address::new(format!("{name}:{DNS_PORT}")))?;
    Ok(ChannelTarget::Direct(vec![address]))
}

fn parse_direct(rest: &str) -> Result<ChannelTarget> {
    // As in go-zero, what is in front of the path does not count, nor what is empty between commas.
    let (_, addresses) = rest.split_once('/').ok_or_else(|| {
        invalid("addresses stand behind three slashes, as in `direct:///host:8080`")
    })?;
    let addresses = addresses.trim_matches('/').split(',').filter(|address| !address.is_empty());
    let addresses: Vec<_> = addresses.map(Address::new).collect::<Result<_>>()?;
    if addresses.is_empty() {
        return Err(unknown_form());
    }
    Ok(ChannelTarget::Direct(addresses))
}

/// In front of the first `/` are the hosts, if there is anything, and then the path is the key.
fn parse_go_zero(rest: &str) -> Result<ChannelTarget> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut names = query.split('&').filter(|pair| !pair.is_empty()).map(name_of);
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if authority.is_empty() {
        if names.any(|name| name != "key") {
            return Err(invalid(
                "a go-zero target has no option but `key`: go-zero would not read it",
            ));
        }
        let key = option(rest, "key").ok_or_else(unknown_form)?;
        // As a query is escaped: a space is `+`.
        return ChannelTarget::go_zero(path.trim_matches('/'), &decode(&key.replace('+', " "))?);
    }
    if names.next().is_some() {
        return Err(invalid(
            "a go-zero target whose path is its key has no options: go-zero would not read them",
        ));
    }
    ChannelTarget::go_zero(authority, decode(path)?.trim_matches('/'))
}

fn parse_registry(url: &str) -> Result<ChannelTarget> {
    let mut registry: Target = url.parse()?;
    let service = registry.take_option("service").ok_or_else(unknown_form)?.parse()?;
    Ok(ChannelTarget::Service { registry, service })
}

/// The first value of an option, as it stands in a URL.
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
    Ok(decoded.map_err(|_| invalid("a URL decodes to UTF-8"))?.into_owned())
}

/// In the form that go-zero writes since 1.10.2, if go-zero can read it; passwords are hidden. Without one it
/// parses to the same target.
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

/// The hosts of a registry of which go-zero could be told, with their user, cut from its URL.
fn hosts_of_go_zero<'a>(registry: &Target, url: &'a str) -> Option<&'a str> {
    let slashes = registry.path().bytes().all(|byte| byte == b'/');
    let hosts = url.strip_prefix("etcd://")?.strip_suffix("?layout=go-zero")?;
    Some(hosts.trim_end_matches('/')).filter(|hosts| slashes && !hosts.is_empty())
}

/// What stands as it is in a key: what Go's `url.QueryEscape` leaves.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// As Go's `url.QueryEscape` does.
fn escape(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string().replace("%20", "+")
}

fn unknown_form() -> Error {
    // What was given may be anything, a password too: it is not repeated.
    invalid(
        "a channel's target is `etcd:///host:2379?key=user.rpc`, `direct:///host:8080`, or the URL of a registry with a service, such as `redis://host/0?service=user.rpc`",
    )
}

fn unsupported_scheme(scheme: &str, instead: &str) -> Error {
    invalid(format!("targets of `{scheme}://` are not served: use {instead}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
