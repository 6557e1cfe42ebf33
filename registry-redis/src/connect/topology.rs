//! The differences between a single server, a primary under Sentinel, and a Cluster.

use super::address::Address;
use crate::error::StoreError;
use crate::info::Info;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use registry_core::diagnosis::Finding;
use std::fmt;

/// The servers of a URL and their roles. `Display` lists the servers as in the URL.
///
/// The default methods are for a single primary that holds all key groups.
#[async_trait]
pub(crate) trait Topology: fmt::Debug + fmt::Display + Send + Sync {
    /// Returns the server of `group`, if it is known without a request.
    fn known_server(&self, group: KeyGroup) -> Option<Address>;

    /// Returns the server of `group`. If it is unknown, looks it up, or returns a server that redirects to it.
    async fn locate(&self, group: KeyGroup) -> Result<Address, StoreError>;

    /// Forgets `address`, which did not answer or is no longer a primary.
    fn invalidate(&self, address: &Address);

    /// Returns how many servers to try for one call.
    fn candidates(&self) -> usize {
        1
    }

    /// Returns where to retry a call that `from` redirected with `error`. Remembers the new server if the
    /// group has moved permanently.
    fn redirect(&self, _: KeyGroup, _from: &Address, _: &StoreError) -> Option<Redirect> {
        None
    }

    /// Returns how many feeds read the logs of `shards` shards. One feed reads all shards on the same server.
    fn feed_count(&self, _shards: u8) -> u8 {
        1
    }

    /// Checks that a newly connected server has the role that the URL requires.
    fn check_role(&self, info: &Info) -> Result<(), StoreError> {
        match info.mode() {
            Some("cluster") => Err(StoreError::WrongTopology("is a cluster node", "redis+cluster")),
            Some("sentinel") => Err(StoreError::WrongTopology("is a sentinel", "redis+sentinel")),
            _ if info.get("role") == Some("slave") => Err(StoreError::NotPrimary),
            _ => Ok(()),
        }
    }

    /// Returns whether a new connection may lead to a server with other data, so that the layout of the
    /// prefix must be verified again.
    fn verifies_each_connection(&self) -> bool {
        true
    }

    /// Assesses a primary without a replica.
    fn assess_lone_primary(&self) -> Finding {
        Finding::ok("replicas", "a primary without replicas: no redundancy")
    }

    /// Adds the server to a finding, if there are several.
    fn label(&self, finding: Finding, _server: &Address) -> Finding {
        finding
    }
}

/// Where to retry a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// On the group's server, which is now known: the group has moved (`MOVED`).
    Moved,
    /// On this server, only once: the group is being moved there (`ASK`).
    Ask(Address),
}
