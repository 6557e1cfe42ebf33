//! The address that a server publishes, when it listens on all that it has.
//!
//! What is published, from the first line that applies:
//!
//! | configured | published |
//! | --- | --- |
//! | `AdvertiseOn: host[:port]` | that; without a port, the one bound |
//! | `ListenOn: 10.0.0.1:8080`, or any other host | that, as in go-zero |
//! | `Interface`, `Cidr` or both | the first address of that interface, in that network |
//! | `ListenOn: 0.0.0.0:8080`, `:8080` or `[::]:8080`, with `POD_IP` in the environment | `$POD_IP:8080`, as in go-zero |
//! | the same without `POD_IP` | the first address of the first usable interface |
//!
//! A port of 0 is the port that was bound. An interface is usable if it is up, not loopback, and not a
//! bridge that containers or virtual machines make (`docker0`, `br-*`, `veth*`, `virbr*`); `Interface`
//! and `Cidr` may name those too. IPv4 comes first, as in go-zero; IPv6 counts where a server listens on `[::]`, since
//! one on `0.0.0.0` or `:8080` has IPv4 only.
//!
//! Refused, as nobody else can dial it, is whatever is unspecified (`0.0.0.0`, `[::]`), link-local
//! (`169.254.*`, `[fe80::]`) or multicast. go-zero (`zrpc/internal/rpcpubserver.go`) publishes these, and for want of an
//! interface `0.0.0.0` itself.

use crate::{Address, Error, ErrorKind, Result};
use ipnet::IpNet;
use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which address a server publishes.
///
/// ```
/// use service_registry::advertise::{Advertise, Machine};
///
/// # fn main() -> service_registry::Result<()> {
/// let machine = Machine {
///     pod_ip: None,
///     interfaces: vec![
///         ("eth0".to_owned(), [10, 0, 0, 5].into()),
///         ("eth1".to_owned(), [192, 168, 1, 5].into()),
///     ],
/// };
/// let advertise = Advertise::new("0.0.0.0:8080".parse()?);
/// assert_eq!(advertise.address_on(&machine, 8080)?.as_str(), "10.0.0.5:8080");
///
/// let advertise = advertise.with_cidr("192.168.0.0/16")?;
/// assert_eq!(advertise.address_on(&machine, 8080)?.as_str(), "192.168.1.5:8080");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Advertise {
    listen_on: ListenOn,
    stated: Option<HostPort>,
    interface: Option<String>,
    cidr: Option<IpNet>,
}

impl Advertise {
    /// For a server that listens there.
    pub fn new(listen_on: ListenOn) -> Self {
        Self { listen_on, stated: None, interface: None, cidr: None }
    }

    /// Publishes `host[:port]`, whatever else is set. Without a port, or with port 0, it is that of the
    /// server.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is not of that form.
    pub fn with_address(mut self, address: &str) -> Result<Self> {
        let stated = HostPort::parse(address).filter(|stated| !stated.host.is_empty());
        self.stated = Some(stated.ok_or_else(|| {
            let address = address.escape_debug();
            invalid(format!("an address to publish is `host[:port]`, got=`{address}`"))
        })?);
        Ok(self)
    }

    /// Publishes an address of the interface `name`.
    #[must_use]
    pub fn with_interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// Publishes an address in a network, such as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is no network.
    pub fn with_cidr(mut self, cidr: &str) -> Result<Self> {
        self.cidr = Some(cidr.parse().map_err(|error: ipnet::AddrParseError| {
            let cidr = cidr.escape_debug();
            let message = "a network is written as its address and length, such as `10.0.0.0/8`";
            invalid(format!("{message}, got=`{cidr}`")).with_source(error)
        })?);
        Ok(self)
    }

    /// Where the server listens.
    pub fn listen_on(&self) -> &ListenOn {
        &self.listen_on
    }

    /// The address to publish by a server on this machine that bound `port`.
    ///
    /// # Errors
    ///
    /// `Invalid`: nobody else could dial the address, or none is as asked for; or the interfaces cannot
    /// be listed. The error says what to set.
    pub fn address(&self, port: u16) -> Result<Address> {
        let known = self.known(port)?;
        known.map_or_else(|| self.choose(&Machine::read()?, port), Ok)
    }

    /// The address to publish by a server on `machine` that bound `port`.
    ///
    /// # Errors
    ///
    /// As [`address`](Self::address).
    pub fn address_on(&self, machine: &Machine, port: u16) -> Result<Address> {
        self.known(port)?.map_or_else(|| self.choose(machine, port), Ok)
    }

    /// The address, if that takes no look at the machine.
    fn known(&self, bound: u16) -> Result<Option<Address>> {
        let port = self.port(bound);
        if let Some(HostPort { host, port: stated }) = &self.stated {
            return publish(host, stated.filter(|port| *port != 0).unwrap_or(port)).map(Some);
        }
        match &self.listen_on.host {
            Host::Any(_) => Ok(None),
            Host::One(_) if self.is_picky() => Err(invalid(format!(
                "`Interface` and `Cidr` choose for a server that listens on all it has, such as \
                 `0.0.0.0:8080`, got=`{}`",
                self.listen_on
            ))),
            Host::One(host) => publish(host, port).map(Some),
        }
    }

    fn choose(&self, machine: &Machine, bound: u16) -> Result<Address> {
        let port = self.port(bound);
        if !self.is_picky()
            && let Some(pod_ip) = &machine.pod_ip
        {
            let ip: IpAddr = pod_ip.parse().map_err(|error: AddrParseError| {
                let pod_ip = pod_ip.escape_debug();
                invalid(format!("`POD_IP` in the environment is an IP address, got=`{pod_ip}`"))
                    .with_source(error)
            })?;
            return publish(&ip.to_string(), port);
        }
        let candidates = machine.interfaces.iter().filter(|(name, ip)| self.takes(name, *ip));
        let candidate = candidates.map(|(_, ip)| *ip).min_by_key(IpAddr::is_ipv6);
        let ip = candidate.ok_or_else(|| self.nothing_to_publish())?;
        publish(&ip.to_string(), port)
    }

    fn port(&self, bound: u16) -> u16 {
        if self.listen_on.port == 0 { bound } else { self.listen_on.port }
    }

    /// Whether not just any interface will do.
    fn is_picky(&self) -> bool {
        self.interface.is_some() || self.cidr.is_some()
    }

    fn takes(&self, name: &str, ip: IpAddr) -> bool {
        let listens = ip.is_ipv4() || matches!(self.listen_on.host, Host::Any(IpAddr::V6(_)));
        let named = self.interface.as_deref().is_none_or(|interface| interface == name);
        let inside = self.cidr.is_none_or(|cidr| cidr.contains(&ip));
        let usual = !ip.is_loopback() && !is_bridge(name);
        listens && is_dialable(ip) && named && inside && (usual || self.is_picky())
    }

    fn nothing_to_publish(&self) -> Error {
        let mut message = vec!["no interface has an address that others can dial".to_owned()];
        if self.is_picky() {
            message.push(" and that is as `Interface` and `Cidr` say".to_owned());
        }
        message.push(": set `AdvertiseOn` to `host:port`".to_owned());
        if matches!(self.listen_on.host, Host::Any(IpAddr::V4(_))) {
            message.push(", or listen on `[::]` if IPv6 is meant".to_owned());
        }
        if let Some(interface) = &self.interface {
            message.push(format!(", interface=`{}`", interface.escape_debug()));
        }
        if let Some(cidr) = &self.cidr {
            message.push(format!(", cidr=`{cidr}`"));
        }
        invalid(message.concat())
    }
}

/// Where a server listens: `host:port`.
///
/// No host, as in `:8080`, is `0.0.0.0`; port 0 leaves the choice to the system. It is shown in the form
/// that a listener of Rust's binds.
///
/// ```
/// use service_registry::advertise::ListenOn;
///
/// # fn main() -> service_registry::Result<()> {
/// let listen_on: ListenOn = ":8080".parse()?;
/// assert_eq!(listen_on.to_string(), "0.0.0.0:8080");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOn {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// All there are: an unspecified address.
    Any(IpAddr),
    /// An address, without brackets, or a name.
    One(String),
}

impl FromStr for ListenOn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message = "a server listens on `host:port`, an IPv6 host in brackets, or `:port`";
            invalid(format!("{message}, got=`{}`", text.escape_debug()))
        };
        let HostPort { host, port } = HostPort::parse(text).ok_or_else(wrong)?;
        let port = port.ok_or_else(wrong)?;
        let host = match host.parse::<IpAddr>() {
            _ if host.is_empty() => Host::Any(Ipv4Addr::UNSPECIFIED.into()),
            Ok(ip) if ip.is_unspecified() => Host::Any(ip),
            _ => {
                // The name is one that an address may have, whatever the port.
                Address::new(with_port(&host, 1))?;
                Host::One(host)
            }
        };
        Ok(Self { host, port })
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

/// What the choice of an address depends on.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The address that Kubernetes gave to the pod, by custom in the environment as `POD_IP`.
    pub pod_ip: Option<String>,
    /// The interfaces that are up, in the system's order, each with an address.
    pub interfaces: Vec<(String, IpAddr)>,
}

impl Machine {
    /// The one that this process runs on.
    ///
    /// # Errors
    ///
    /// `Invalid` if its interfaces cannot be listed.
    pub fn read() -> Result<Self> {
        let interfaces = if_addrs::get_if_addrs().map_err(|error| {
            invalid("the interfaces cannot be listed: set `AdvertiseOn` to `host:port`")
                .with_source(error)
        })?;
        let up = interfaces.into_iter().filter(if_addrs::Interface::is_oper_up);
        let interfaces = up.map(|interface| (interface.ip(), interface.name));
        Ok(Self {
            pod_ip: std::env::var("POD_IP").ok().filter(|ip| !ip.is_empty()),
            interfaces: interfaces.map(|(ip, name)| (name, ip)).collect(),
        })
    }
}

/// A host, without brackets, and perhaps a port.
#[derive(Clone, Debug)]
struct HostPort {
    host: String,
    port: Option<u16>,
}

impl HostPort {
    fn parse(text: &str) -> Option<Self> {
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

/// `host:port`, for a host without brackets.
fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn publish(host: &str, port: u16) -> Result<Address> {
    let address = with_port(host, port);
    if host.parse().is_ok_and(|ip| !is_dialable(ip)) {
        let message = "an address to publish is one that others can dial, and not unspecified, \
                       link-local or multicast: set `AdvertiseOn` to `host:port`";
        return Err(invalid(format!("{message}, got=`{address}`")));
    }
    Address::new(address)
}

/// Whether others may reach it: loopback too, since they may be on the same machine.
fn is_dialable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        _ if ip.is_unspecified() || ip.is_multicast() => false,
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_link_local() || v4.is_broadcast() || v4.is_multicast())
        }
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

/// Whether containers or virtual machines made it, for themselves.
fn is_bridge(name: &str) -> bool {
    name == "docker0" || ["br-", "veth", "virbr"].iter().any(|made| name.starts_with(made))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
