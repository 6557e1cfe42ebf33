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
//! A port of 0 is the port that was bound. An interface is usable if it is up, not loopback, and not one that
//! containers or virtual machines bring for their own networks (`docker0`, `br-0123456789ab`, `veth*`, `virbr*`, `cni0`,
//! `lxcbr0`, `flannel.1`, `cali*`, `kube-ipvs0`, `podman0`, ...); `Interface` and `Cidr` may name those too. IPv4
//! comes first, as in go-zero.
//!
//! An IPv6 address is published where the listener takes IPv6, and refused where it does not. [`ListenOn::bind`]
//! listens for both on `0.0.0.0:8080`, `:8080` and `[::]:8080`, as Go does; a listener that is bound to `0.0.0.0:8080`
//! otherwise has IPv4 alone.
//!
//! Refused, as nobody else can dial it, is whatever is unspecified (`0.0.0.0`, `[::]`), link-local
//! (`169.254.*`, `[fe80::]`) or multicast. go-zero (`zrpc/internal/rpcpubserver.go`) publishes these, and for want of an
//! interface `0.0.0.0` itself.

mod error;
mod listen_on;
mod machine;

pub use self::listen_on::ListenOn;
pub use self::machine::{InterfaceAddress, Machine};

use self::error::invalid;
use self::listen_on::{Host, HostPort, with_port};
use self::machine::is_bridge;
use crate::{Address, Error, Result};
use ipnet::IpNet;
use std::net::{AddrParseError, IpAddr, SocketAddr};

/// Which address a server publishes.
///
/// ```
/// use service_registry::advertise::{Advertise, InterfaceAddress, Machine};
///
/// # fn main() -> service_registry::Result<()> {
/// let machine = Machine::new(vec![
///     InterfaceAddress::new("eth0", [10, 0, 0, 5].into()),
///     InterfaceAddress::new("eth1", [192, 168, 1, 5].into()),
/// ]);
/// let bound = ([0, 0, 0, 0], 8080).into();
/// let advertise = Advertise::new("0.0.0.0:8080".parse()?);
/// assert_eq!(advertise.address_on(&machine, bound)?.as_str(), "10.0.0.5:8080");
///
/// let advertise = advertise.with_cidr("192.168.0.0/16")?;
/// assert_eq!(advertise.address_on(&machine, bound)?.as_str(), "192.168.1.5:8080");
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

    /// The address to publish by a server on this machine whose listener has the address `bound`.
    ///
    /// # Errors
    ///
    /// `Invalid`: nobody else could dial the address, or none is as asked for; or the interfaces cannot
    /// be listed. The error says what to set.
    pub fn address(&self, bound: SocketAddr) -> Result<Address> {
        let known = self.known(bound)?;
        known.map_or_else(|| self.choose(&Machine::read()?, bound), Ok)
    }

    /// The address to publish by a server on `machine` whose listener has the address `bound`.
    ///
    /// # Errors
    ///
    /// As [`address`](Self::address).
    pub fn address_on(&self, machine: &Machine, bound: SocketAddr) -> Result<Address> {
        self.known(bound)?.map_or_else(|| self.choose(machine, bound), Ok)
    }

    /// The address, if that takes no look at the machine.
    fn known(&self, bound: SocketAddr) -> Result<Option<Address>> {
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

    fn choose(&self, machine: &Machine, bound: SocketAddr) -> Result<Address> {
        let port = self.port(bound);
        if !self.is_picky()
            && let Some(pod_ip) = &machine.pod_ip
        {
            return publish_pod_ip(pod_ip, port, bound);
        }
        let takes = |address: &&InterfaceAddress| self.takes(address, bound);
        let candidates = machine.addresses.iter().filter(takes);
        let candidate = candidates.map(|address| address.ip).min_by_key(IpAddr::is_ipv6);
        let ip = candidate.ok_or_else(|| self.nothing_to_publish(bound))?;
        publish(&ip.to_string(), port)
    }

    fn port(&self, bound: SocketAddr) -> u16 {
        if self.listen_on.port == 0 { bound.port() } else { self.listen_on.port }
    }

    /// Whether not just any interface will do.
    fn is_picky(&self) -> bool {
        self.interface.is_some() || self.cidr.is_some()
    }

    fn takes(&self, address: &InterfaceAddress, bound: SocketAddr) -> bool {
        let InterfaceAddress { interface, ip, loopback } = address;
        let named = self.interface.as_ref().is_none_or(|name| name == interface);
        let inside = self.cidr.is_none_or(|cidr| cidr.contains(ip));
        let usual = !loopback && !ip.is_loopback() && !is_bridge(interface);
        let dialable = is_dialable(*ip) && is_heard(*ip, bound);
        dialable && named && inside && (usual || self.is_picky())
    }

    fn nothing_to_publish(&self, bound: SocketAddr) -> Error {
        let mut message = vec!["no interface has an address that others can dial".to_owned()];
        if self.is_picky() {
            message.push(" and that is as `Interface` and `Cidr` say".to_owned());
        }
        message.push(": set `AdvertiseOn` to `host:port`".to_owned());
        if bound.is_ipv4() {
            message.push(", or listen for IPv6, too, with `ListenOn::bind`".to_owned());
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

/// What Kubernetes says: an address, if IPv6 with or without brackets.
fn publish_pod_ip(pod_ip: &str, port: u16, bound: SocketAddr) -> Result<Address> {
    let bare = pod_ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(pod_ip).parse().map_err(|error: AddrParseError| {
        let pod_ip = pod_ip.escape_debug();
        invalid(format!("`POD_IP` in the environment is an IP address, got=`{pod_ip}`"))
            .with_source(error)
    })?;
    if !is_heard(ip, bound) {
        return Err(invalid(format!(
            "`POD_IP` in the environment is of IPv6, and the server listens for IPv4 alone: bind with \
             `ListenOn::bind`, or set `AdvertiseOn`, pod_ip=`{ip}`, bound=`{bound}`"
        )));
    }
    publish(&ip.to_string(), port)
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

/// Whether a listener with the address `bound` hears who dials `ip`.
fn is_heard(ip: IpAddr, bound: SocketAddr) -> bool {
    ip.is_ipv4() || bound.is_ipv6()
}

#[cfg(test)]
mod tests;
