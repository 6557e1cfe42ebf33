//! The nodes of a Cluster, as its redirections tell.
//!
//! No map of slots is read: whoever is asked about a shard that lies elsewhere says where (`MOVED`), once
//! for each shard. A node that is gone is forgotten, and any other is asked.

use super::{Address, list};
use crate::shard::Home;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Cluster {
    /// Those of the URL.
    seeds: Vec<Address>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<Home, Address>,
    /// Whom to ask where nothing is known: a number among the candidates.
    turn: usize,
}

impl Cluster {
    /// Which seed comes first is `turn`'s to say: a fleet spreads over all of them.
    pub(super) fn new(seeds: Vec<Address>, turn: usize) -> Self {
        Self { seeds, known: Mutex::new(Known { turn, ..Known::default() }) }
    }

    /// Whoever is known to have `home`, or might know who has.
    pub(super) fn owner(&self, home: Home) -> Address {
        let known = self.known();
        if let Some(owner) = known.owners.get(&home) {
            return owner.clone();
        }
        let candidates = self.all(&known);
        candidates[known.turn % candidates.len()].clone()
    }

    pub(super) fn known_owner(&self, home: Home) -> Option<Address> {
        self.known().owners.get(&home).cloned()
    }

    pub(super) fn learn(&self, home: Home, address: Address) {
        self.known().owners.insert(home, address);
    }

    pub(super) fn doubt(&self, address: &Address) {
        let mut known = self.known();
        known.owners.retain(|_, owner| owner != address);
        known.turn = known.turn.wrapping_add(1);
    }

    pub(super) fn candidates(&self) -> usize {
        self.all(&self.known()).len()
    }

    /// The seeds, and the nodes that were learned of besides. Seeds may all be replaced over the years.
    fn all(&self, known: &Known) -> Vec<Address> {
        let mut all = self.seeds.clone();
        for owner in known.owners.values() {
            if !all.contains(owner) {
                all.push(owner.clone());
            }
        }
        all
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(&self.seeds, f)
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

    #[test]
    fn a_shard_lies_where_a_node_said_until_that_is_gone() {
        let cluster = Cluster::new(vec![node(1), node(2)], 0);
        let homes: Vec<Home> =
            ["a", "b"].map(|name| Home::Shard(Shard::of(&name.parse().unwrap(), 16))).into();
        cluster.learn(homes[0], node(3));
        cluster.learn(homes[1], node(2));
        assert_eq!((cluster.owner(homes[0]), cluster.owner(homes[1])), (node(3), node(2)));
        cluster.doubt(&node(3));
        assert_ne!(cluster.owner(homes[0]), node(3));
        assert_eq!(cluster.owner(homes[1]), node(2), "nothing was said of that one");
    }

    #[test]
    fn every_node_that_is_known_gets_its_turn() {
        let cluster = Cluster::new(vec![node(1), node(2)], 7);
        cluster.learn(Home::Shard(Shard::of(&"a".parse().unwrap(), 16)), node(3));
        let asked: HashSet<Address> = (0..cluster.candidates())
            .map(|_| {
                let asked = cluster.owner(Home::Layout);
                cluster.doubt(&node(9));
                asked
            })
            .collect();
        assert_eq!(asked, HashSet::from([node(1), node(2), node(3)]));
    }
}
