//! What the choice of an address depends on.

use super::error::invalid;
use crate::Result;
use getifaddrs::{InterfaceFlags, getifaddrs};
use std::net::IpAddr;

/// What the choice of an address depends on.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Machine {
    /// The address that Kubernetes gave to the pod, by custom in the environment as `POD_IP`.
    pub pod_ip: Option<String>,
    /// The addresses of the interfaces that are up, in the system's order.
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
    /// Whether it is an interface for the machine alone, such as `lo`. Its addresses may be of any kind: one that
    /// several machines share, for a load balancer in front of them, stands there.
    pub loopback: bool,
}

impl Machine {
    /// A machine with these addresses, for tests.
    pub fn new(addresses: Vec<InterfaceAddress>) -> Self {
        Self { pod_ip: None, addresses }
    }

    /// Sets the address that Kubernetes gave to the pod.
    #[must_use]
    pub fn with_pod_ip(mut self, pod_ip: impl Into<String>) -> Self {
        self.pod_ip = Some(pod_ip.into());
        self
    }

    /// The one that this process runs on.
    ///
    /// # Errors
    ///
    /// `Invalid` if its interfaces cannot be listed.
    pub fn read() -> Result<Self> {
        let interfaces = getifaddrs().map_err(|error| {
            invalid("the interfaces cannot be listed: set `AdvertiseOn` to `host:port`")
                .with_source(error)
        })?;
        let up = InterfaceFlags::UP | InterfaceFlags::RUNNING;
        let mut interfaces: Vec<_> =
            interfaces.filter(|interface| interface.flags.contains(up)).collect();
        // The system lists all of IPv4 first; go-zero looks at one interface after the other.
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
    /// An address of an interface that other machines may reach.
    pub fn new(interface: impl Into<String>, ip: IpAddr) -> Self {
        Self { interface: interface.into(), ip, loopback: false }
    }

    /// Sets whether it is an address of an interface for the machine alone.
    #[must_use]
    pub fn with_loopback(mut self, loopback: bool) -> Self {
        self.loopback = loopback;
        self
    }
}

/// What the names of interfaces begin with that containers and virtual machines bring, for their own networks.
const BRIDGES: [&str; 16] = [
    "antrea-", "cali", "cbr", "cilium_", "cni", "docker", "flannel", "kube-", "lxc", "lxdbr",
    "podman", "tunl", "veth", "virbr", "vnet", "weave",
];

/// The digits of its id by which Docker names the bridge of a network, such as `br-0123456789ab`.
const DOCKER_ID: usize = 12;

/// Whether containers or virtual machines made the interface, for themselves.
pub(super) fn is_bridge(name: &str) -> bool {
    let docker = name.strip_prefix("br-").is_some_and(|id| {
        id.len() == DOCKER_ID && id.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    docker || BRIDGES.iter().any(|made| name.starts_with(made)) || name == "vxlan.calico"
}
