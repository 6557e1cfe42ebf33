//! The choice of the address that a server publishes, for servers that listen on all interfaces.
//!
//! The first row that applies decides:
//!
//! | configuration | published address |
//! | --- | --- |
//! | `AdvertiseOn: host[:port]` | that address; without a port, with the bound port |
//! | `ListenOn: 10.0.0.1:8080`, or any other specific host | that address, as in go-zero |
//! | `Interface`, `Cidr` or both | the first address of that interface in that network |
//! | `ListenOn: 0.0.0.0:8080`, `:8080` or `[::]:8080`, with `POD_IP` in the environment | `$POD_IP:8080`, as in go-zero |
//! | the same without `POD_IP` | the first address of the first usable interface |
//!
//! Port 0 stands for the bound port. An interface is usable if it is up, is not a loopback interface, and does not
//! belong to a container or virtual machine network (`docker0`, `br-0123456789ab`, `veth*`, `virbr*`, `cni0`, `lxcbr0`,
//! `flannel.1`, `cali*`, `kube-ipvs0`, `podman0`, ...). `Interface` and `Cidr` may also select such interfaces. IPv4
//! addresses are preferred, as in go-zero.
//!
//! An IPv6 address is published only if the listener accepts IPv6. [`ListenOn::bind`] listens on both IPv4 and IPv6 for
//! `0.0.0.0:8080`, `:8080` and `[::]:8080`, as Go does. A listener that is bound to `0.0.0.0:8080` in another way
//! accepts IPv4 only.
//!
//! Unspecified (`0.0.0.0`, `[::]`), link-local (`169.254.*`, `[fe80::]`) and multicast addresses are refused, since no
//! other machine can dial them. go-zero (`zrpc/internal/rpcpubserver.go`) publishes them, and publishes `0.0.0.0` if it
//! finds no interface.

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

/// Rules for the address that a server publishes.
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
    /// Returns the rules for a server that listens on `listen_on`.
    pub fn new(listen_on: ListenOn) -> Self {
        Self { listen_on, stated: None, interface: None, cidr: None }
    }

    /// Publishes `host[:port]`, regardless of the other settings. Without a port, or with port 0, the server's port is
    /// published.
    ///
    /// # Errors
    ///
    /// `Invalid` if `address` does not have that form.
    pub fn with_address(mut self, address: &str) -> Result<Self> {
        let stated = HostPort::parse(address).filter(|stated| !stated.host.is_empty());
        self.stated = Some(stated.ok_or_else(|| {
            let address = address.escape_debug();
            invalid(format!("the address to publish is not `host[:port]`, got=`{address}`"))
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
    /// `Invalid` if `cidr` is not a network in CIDR notation.
    pub fn with_cidr(mut self, cidr: &str) -> Result<Self> {
        self.cidr = Some(cidr.parse().map_err(|error: ipnet::AddrParseError| {
            let cidr = cidr.escape_debug();
            let message = "the network is not in CIDR notation, such as `10.0.0.0/8`";
            invalid(format!("{message}, got=`{cidr}`")).with_source(error)
        })?);
        Ok(self)
    }

    /// Returns the address that the server listens on.
    pub fn listen_on(&self) -> &ListenOn {
        &self.listen_on
    }

    /// Returns the address to publish for a server on this machine whose listener is bound to `bound`.
    ///
    /// # Errors
    ///
    /// `Invalid` if others cannot dial the address, if no address matches the settings, or if the interfaces cannot be
    /// listed. The error says which setting to change.
    pub fn address(&self, bound: SocketAddr) -> Result<Address> {
        let known = self.known(bound)?;
        known.map_or_else(|| self.choose(&Machine::read()?, bound), Ok)
    }

    /// Returns the address to publish for a server on `machine` whose listener is bound to `bound`.
    ///
    /// # Errors
    ///
    /// Those of [`address`](Self::address).
    pub fn address_on(&self, machine: &Machine, bound: SocketAddr) -> Result<Address> {
        self.known(bound)?.map_or_else(|| self.choose(machine, bound), Ok)
    }

    /// Returns the address if the configuration alone determines it.
    fn known(&self, bound: SocketAddr) -> Result<Option<Address>> {
        let port = self.port(bound);
        if let Some(HostPort { host, port: stated }) = &self.stated {
            return publish(host, stated.filter(|port| *port != 0).unwrap_or(port)).map(Some);
        }
        match &self.listen_on.host {
            Host::Any(_) => Ok(None),
            Host::One(_) if self.is_selective() => Err(invalid(format!(
                "`Interface` and `Cidr` need a server that listens on all interfaces, such as on \
                 `0.0.0.0:8080`, listen_on=`{}`",
                self.listen_on
            ))),
            Host::One(host) => publish(host, port).map(Some),
        }
    }

    fn choose(&self, machine: &Machine, bound: SocketAddr) -> Result<Address> {
        let port = self.port(bound);
        if !self.is_selective()
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

    /// Returns whether an interface or a network is configured.
    fn is_selective(&self) -> bool {
        self.interface.is_some() || self.cidr.is_some()
    }

    fn takes(&self, address: &InterfaceAddress, bound: SocketAddr) -> bool {
        let InterfaceAddress { interface, ip, loopback } = address;
        let named = self.interface.as_ref().is_none_or(|name| name == interface);
        let inside = self.cidr.is_none_or(|cidr| cidr.contains(ip));
        let usual = !loopback && !ip.is_loopback() && !is_bridge(interface);
        let dialable = is_dialable(*ip) && is_accepted(*ip, bound);
        dialable && named && inside && (usual || self.is_selective())
    }

    fn nothing_to_publish(&self, bound: SocketAddr) -> Error {
        let mut message = vec!["no interface has an address that others can dial".to_owned()];
        if self.is_selective() {
            message.push(" and that matches `Interface` and `Cidr`".to_owned());
        }
        message.push(": set `AdvertiseOn` to `host:port`".to_owned());
        if bound.is_ipv4() {
            message.push(", or listen on IPv6 too, with `ListenOn::bind`".to_owned());
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

/// Returns the address of `POD_IP`, which may have brackets if it is IPv6.
fn publish_pod_ip(pod_ip: &str, port: u16, bound: SocketAddr) -> Result<Address> {
    let bare = pod_ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(pod_ip).parse().map_err(|error: AddrParseError| {
        let pod_ip = pod_ip.escape_debug();
        invalid(format!("`POD_IP` in the environment is not an IP address, got=`{pod_ip}`"))
            .with_source(error)
    })?;
    if !is_accepted(ip, bound) {
        return Err(invalid(format!(
            "`POD_IP` in the environment is an IPv6 address, but the server listens on IPv4 only: bind with \
             `ListenOn::bind`, or set `AdvertiseOn`, pod_ip=`{ip}`, bound=`{bound}`"
        )));
    }
    publish(&ip.to_string(), port)
}

fn publish(host: &str, port: u16) -> Result<Address> {
    let address = with_port(host, port);
    if host.parse().is_ok_and(|ip| !is_dialable(ip)) {
        let message = "the address to publish is none that others can dial (it is unspecified, link-local, \
                       broadcast or multicast): set `AdvertiseOn` to `host:port`";
        return Err(invalid(format!("{message}, got=`{address}`")));
    }
    Address::new(address)
}

/// Returns whether others may reach `ip`. That includes loopback, since callers may run on the same machine.
fn is_dialable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        _ if ip.is_unspecified() || ip.is_multicast() => false,
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_link_local() || v4.is_broadcast() || v4.is_multicast())
        }
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

/// Returns whether a listener bound to `bound` accepts connections to `ip`.
fn is_accepted(ip: IpAddr, bound: SocketAddr) -> bool {
    ip.is_ipv4() || bound.is_ipv6()
}

#[cfg(test)]
mod tests;
