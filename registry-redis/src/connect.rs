//! Where a shard lies: on the one server, on the primary that Sentinel names, or on a node of a Cluster.

mod address;
mod cluster;
mod dial;
mod sentinel;
mod url;

pub(crate) use self::address::Address;
pub(crate) use self::dial::Dialer;
pub(crate) use self::url::Setup;

use self::cluster::Cluster;
use self::sentinel::Sentinel;
use crate::error::Fault;
use crate::shard::Home;
use std::fmt;

/// How the servers stand to each other.
#[derive(Debug)]
pub(crate) enum Topology {
    Standalone(Address),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

impl Topology {
    /// Who is to be asked about `home`, as far as is known.
    pub(crate) async fn locate(&self, home: Home) -> Result<Address, Fault> {
        match self {
            Self::Standalone(address) => Ok(address.clone()),
            Self::Sentinel(sentinel) => sentinel.primary().await,
            Self::Cluster(cluster) => Ok(cluster.owner(home)),
        }
    }

    /// Notes that `home` lies at `address`, as a node of the cluster said.
    pub(crate) fn learn(&self, home: Home, address: Address) {
        if let Self::Cluster(cluster) = self {
            cluster.learn(home, address);
        }
    }

    /// Notes that `address` did not answer, or is no primary any more: others are to be asked.
    pub(crate) fn doubt(&self, address: &Address) {
        match self {
            Self::Standalone(_) => {}
            Self::Sentinel(sentinel) => sentinel.doubt(address),
            Self::Cluster(cluster) => cluster.doubt(address),
        }
    }

    /// How many servers might be asked in place of one that cannot be reached.
    pub(crate) fn candidates(&self) -> usize {
        match self {
            Self::Standalone(_) | Self::Sentinel(_) => 1,
            Self::Cluster(cluster) => cluster.candidates(),
        }
    }

    /// Who is to be asked about `home`, if that is known without asking anybody.
    pub(crate) fn known(&self, home: Home) -> Option<Address> {
        match self {
            Self::Standalone(address) => Some(address.clone()),
            Self::Sentinel(sentinel) => sentinel.known_primary(),
            Self::Cluster(cluster) => cluster.known_owner(home),
        }
    }

    /// Whether shards lie on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone(address) => write!(f, "{address}"),
            Self::Sentinel(sentinel) => write!(f, "{sentinel}"),
            Self::Cluster(cluster) => write!(f, "{cluster}"),
        }
    }
}

/// Several addresses as a URL has them.
fn list(addresses: &[Address], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, address) in addresses.iter().enumerate() {
        write!(f, "{}{address}", if n == 0 { "" } else { "," })?;
    }
    Ok(())
}
