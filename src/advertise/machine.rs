//! The addresses of a machine.

use super::error::invalid;
use crate::Result;
use getifaddrs::{InterfaceFlags, getifaddrs};
use std::net::IpAddr;

/// The properties of a machine that decide which address is published.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Machine {
    /// The address that Kubernetes gave to the pod, conventionally in the environment variable `POD_IP`.
    pub pod_ip: Option<String>,
    /// The addresses of the interfaces that are up, in the order of their interface index.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceAddress {
    /// The name of the interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Whether it is a loopback interface, such as `lo`. Its addresses need not be loopback addresses: a virtual
    /// address that several machines share behind a load balancer is often configured there.
    pub loopback: bool,
}

impl Machine {
    /// Returns a machine with these addresses, for tests.
    pub fn new(addresses: Vec<InterfaceAddress>) -> Self {
        Self { pod_ip: None, addresses }
    }

    /// Sets the address that Kubernetes gave to the pod.
    #[must_use]
    pub fn with_pod_ip(mut self, pod_ip: impl Into<String>) -> Self {
        self.pod_ip = Some(pod_ip.into());
        self
    }

    /// Reads the properties of the machine that this process runs on.
    ///
    /// # Errors
    ///
    /// `Invalid` if its interfaces cannot be listed.
    pub fn read() -> Result<Self> {
        let interfaces = getifaddrs().map_err(|error| {
            invalid("the network interfaces cannot be listed: set `AdvertiseOn` to `host:port`")
                .with_source(error)
        })?;
        let up = InterfaceFlags::UP | InterfaceFlags::RUNNING;
        let mut interfaces: Vec<_> =
            interfaces.filter(|interface| interface.flags.contains(up)).collect();
        // The system lists all IPv4 addresses first, but go-zero goes through one interface after the other.
        interfaces.sort_by_key(|interface| interface.index);
        let address = |interface: getifaddrs::Interface| {
            Some(InterfaceAddress {
                ip: interface.address.ip_addr()?,
                loopback: interface.flags.contains(InterfaceFlags::LOOPBACK),
                interface: interface.name,
            })
        };
        Ok(Self {
            pod_ip: std::env::var("POD_IP").ok().filter(|ip| !ip.is_empty()),
            addresses: interfaces.into_iter().filter_map(address).collect(),
        })
    }
}

impl InterfaceAddress {
    /// Returns an address of an interface that other machines may reach.
    pub fn new(interface: impl Into<String>, ip: IpAddr) -> Self {
        Self { interface: interface.into(), ip, loopback: false }
    }

    /// Sets whether the interface is for the machine alone.
    #[must_use]
    pub fn with_loopback(mut self, loopback: bool) -> Self {
        self.loopback = loopback;
        self
    }
}

/// Name prefixes of the interfaces of container and virtual machine networks.
const BRIDGES: [&str; 16] = [
    "antrea-", "cali", "cbr", "cilium_", "cni", "docker", "flannel", "kube-", "lxc", "lxdbr",
    "podman", "tunl", "veth", "virbr", "vnet", "weave",
];

/// The number of id digits in Docker's bridge names, such as `br-0123456789ab`.
const DOCKER_ID: usize = 12;

/// Returns whether the interface belongs to a container or virtual machine network.
pub(super) fn is_bridge(name: &str) -> bool {
    let docker = name.strip_prefix("br-").is_some_and(|id| {
        id.len() == DOCKER_ID && id.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    docker || BRIDGES.iter().any(|made| name.starts_with(made)) || name == "vxlan.calico"
}
