//! What differs between one server, a primary under Sentinel and a Cluster.

use super::address::Address;
use crate::error::StoreError;
use crate::info::Info;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use registry_core::diagnosis::Finding;
use std::fmt;

/// The servers of a URL and their roles. `Display` lists the servers as the URL does.
///
/// The defaults are those of a single primary that holds all key groups.
#[async_trait]
pub(crate) trait Topology: fmt::Debug + fmt::Display + Send + Sync {
    /// Returns the server to ask about `group`, if it is known without asking anybody.
    fn known_server(&self, group: KeyGroup) -> Option<Address>;

    /// Returns the server to ask about `group`. If it is not known, finds it out, or returns a server
    /// that redirects to it.
    async fn locate(&self, group: KeyGroup) -> Result<Address, StoreError>;

    /// Forgets `address`, which did not answer or is no primary any more.
    fn invalidate(&self, address: &Address);

    /// How many servers to try in turn for one call, before it fails.
    fn candidates(&self) -> usize {
        1
    }

    /// Returns where to make a call again that failed at `from`, if `from` said so. Remembers it if
    /// the group has moved there for good.
    fn redirect(&self, _: KeyGroup, _from: &Address, _: &StoreError) -> Option<Redirect> {
        None
    }

    /// How many connections read the logs of `shards` shards: one reads all that share a server.
    fn feed_count(&self, _shards: u8) -> u8 {
        1
    }

    /// Checks that a server to which a connection was just made has the role that the URL says.
    fn check_role(&self, info: &Info) -> Result<(), StoreError> {
        match info.mode() {
            Some("cluster") => {
                Err(StoreError::WrongTopology("is a node of a cluster", "redis+cluster"))
            }
            Some("sentinel") => Err(StoreError::WrongTopology("is a sentinel", "redis+sentinel")),
            _ if info.get("role") == Some("slave") => Err(StoreError::NotPrimary),
            _ => Ok(()),
        }
    }

    /// Whether a new connection may lead to a server with other data, so that the layout of the prefix
    /// must be checked again.
    fn verifies_each_connection(&self) -> bool {
        true
    }

    /// Judges a primary that has no replica.
    fn judge_lone_primary(&self) -> Finding {
        Finding::ok("replicas", "a primary without a replica: it has no stand-in")
    }

    /// Names the server of a finding, if there are several.
    fn label(&self, finding: Finding, _server: &Address) -> Finding {
        finding
    }
}

/// Where to make a call again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// At the server that is known by now: the group has moved (`MOVED`).
    Moved,
    /// At this server, this once: the group is being moved there (`ASK`).
    Ask(Address),
}
