//! A Cluster, in which each shard is on some node.
//!
//! The client keeps no slot map. It remembers the `MOVED` redirect of each key group, and forgets a node that
//! fails. If the owner of a group is unknown, any node is asked, which redirects to it.

use super::address::{Address, write_list};
use super::topology::{Redirect, Topology};
use crate::error::StoreError;
use crate::info::Info;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use registry_core::diagnosis::Finding;
use registry_core::{Error, ErrorKind, Result, Target};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Cluster {
    /// The nodes of the URL.
    seeds: Vec<Address>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owners: HashMap<KeyGroup, Address>,
    /// The index of the next candidate while the owner is unknown, modulo the number of nodes.
    next: usize,
}

impl Cluster {
    const PORT: u16 = 6379;

    /// Returns the nodes of a URL. Each client starts at a random one, so that a fleet spreads over all of them.
    pub(super) fn parse(target: &Target) -> Result<Self> {
        if !target.path().is_empty() {
            let message =
                "redis+cluster:// must have no path, since a cluster has only one database";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let first = getrandom::u32().unwrap_or_default() as usize;
        Ok(Self::new(Address::all_of(target, Self::PORT)?, first))
    }

    fn new(seeds: Vec<Address>, next: usize) -> Self {
        Self { seeds, state: Mutex::new(State { next, ..State::default() }) }
    }

    /// Returns the owner of `group`, or else the next candidate, which redirects to it.
    fn owner_or_candidate(&self, group: KeyGroup) -> Address {
        let state = self.state();
        if let Some(owner) = state.owners.get(&group) {
            return owner.clone();
        }
        let nodes = self.nodes(&state);
        nodes[state.next % nodes.len()].clone()
    }

    /// Returns the seeds and the nodes named by redirects, since over time all seeds may be replaced.
    fn nodes(&self, state: &State) -> Vec<Address> {
        let mut nodes = self.seeds.clone();
        for owner in state.owners.values() {
            if !nodes.contains(owner) {
                nodes.push(owner.clone());
            }
        }
        nodes
    }

    /// The lock is held for a few assignments that cannot panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Topology for Cluster {
    fn known_server(&self, group: KeyGroup) -> Option<Address> {
        self.state().owners.get(&group).cloned()
    }

    async fn locate(&self, group: KeyGroup) -> Result<Address, StoreError> {
        Ok(self.owner_or_candidate(group))
    }

    fn invalidate(&self, address: &Address) {
        let mut state = self.state();
        state.owners.retain(|_, owner| owner != address);
        state.next = state.next.wrapping_add(1);
    }

    fn candidates(&self) -> usize {
        self.nodes(&self.state()).len()
    }

    fn redirect(&self, group: KeyGroup, from: &Address, error: &StoreError) -> Option<Redirect> {
        let StoreError::Redis(error) = error else { return None };
        let errors = error.clone().into_server_errors()?;
        errors.iter().find_map(|(_, error)| {
            let (_slot, to) = error.details()?.split_once(' ')?;
            let to = Address::parse_redirect(to, from)?;
            match error.code() {
                "MOVED" => {
                    self.state().owners.insert(group, to);
                    Some(Redirect::Moved)
                }
                "ASK" => Some(Redirect::Ask(to)),
                _ => None,
            }
        })
    }

    /// One feed per shard, since different nodes hold different shards.
    fn feed_count(&self, shards: u8) -> u8 {
        shards
    }

    /// A node may be a replica, which redirects to its primary.
    fn check_role(&self, info: &Info) -> Result<(), StoreError> {
        match info.mode() {
            Some("standalone") => Err(StoreError::WrongTopology("is not a cluster node", "redis")),
            Some("sentinel") => Err(StoreError::WrongTopology("is a sentinel", "redis+sentinel")),
            _ => Ok(()),
        }
    }

    /// The nodes belong to the same cluster. The node with the layout may be down, which must not block calls
    /// to shards on other nodes.
    fn verifies_each_connection(&self) -> bool {
        false
    }

    fn assess_lone_primary(&self) -> Finding {
        let message = "a primary without a replica: its data is lost when it fails";
        Finding::warning("replicas", message, "give each primary a replica")
    }

    fn label(&self, finding: Finding, server: &Address) -> Finding {
        finding.with_subject(server)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.seeds, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use std::collections::HashSet;

    fn node(port: u16) -> Address {
        Address::new("10.0.0.1", port)
    }

    fn group(service: &str) -> KeyGroup {
        KeyGroup::Shard(Shard::of(&service.parse().unwrap(), 16))
    }

    fn redirect(cluster: &Cluster, group: KeyGroup, line: &str) -> Option<Redirect> {
        let reply = format!("-{line}\r\n");
        let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
        let error = StoreError::from(value.extract_error().unwrap_err());
        cluster.redirect(group, &node(1), &error)
    }

    #[test]
    fn owner_is_remembered_until_its_node_is_invalidated() {
        let cluster = Cluster::new(vec![node(1), node(2)], 0);
        let (a, b) = (group("a"), group("b"));
        assert_eq!(redirect(&cluster, a, "MOVED 1 10.0.0.1:3"), Some(Redirect::Moved));
        assert_eq!(redirect(&cluster, b, "MOVED 2 10.0.0.1:2"), Some(Redirect::Moved));
        assert_eq!(
            (cluster.known_server(a), cluster.known_server(b)),
            (Some(node(3)), Some(node(2)))
        );
        cluster.invalidate(&node(3));
        assert_ne!(cluster.owner_or_candidate(a), node(3));
        assert_eq!(cluster.known_server(b), Some(node(2)), "the other node is not affected");
    }

    #[test]
    fn ask_redirects_one_call_and_other_errors_none() {
        let cluster = Cluster::new(vec![node(1)], 0);
        let ask = redirect(&cluster, group("a"), "ASK 1 10.0.0.1:3");
        assert_eq!(ask, Some(Redirect::Ask(node(3))));
        assert_eq!(redirect(&cluster, group("a"), "ERR no such thing"), None);
        assert_eq!(cluster.known_server(group("a")), None);
    }

    #[test]
    fn every_known_node_becomes_the_candidate_in_turn() {
        let cluster = Cluster::new(vec![node(1), node(2)], 7);
        redirect(&cluster, group("a"), "MOVED 1 10.0.0.1:3");
        let asked: HashSet<Address> = (0..cluster.candidates())
            .map(|_| {
                let asked = cluster.owner_or_candidate(KeyGroup::Layout);
                cluster.invalidate(&node(9));
                asked
            })
            .collect();
        assert_eq!(asked, HashSet::from([node(1), node(2), node(3)]));
    }
}
