//! The instances of one service, in one shared block of memory.

use crate::{Change, Instance, InstanceId};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Up to this many changes are applied one by one; more are merged in one pass.
const MAX_SINGLE_CHANGES: usize = 16;

/// The instances of one service: a slice, sorted by id, each id once.
///
/// A clone is a handle to the same slice. To change one that is shared is to copy it, at the cost of a
/// pointer for each instance.
///
/// ```
/// use registry_core::{Instance, Instances};
///
/// # fn main() -> registry_core::Result<()> {
/// let node = |id: &str| Ok(Instance::new("user.rpc".parse()?, id.parse()?, "10.0.0.1:80".parse()?));
/// let instances = Instances::from_iter([node("b")?, node("a")?]);
/// assert_eq!(instances.len(), 2);
/// assert_eq!(instances[0].id().as_str(), "a");
/// assert!(instances.find("b").is_some());
/// # registry_core::Result::Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Instances(Arc<Vec<Instance>>);

impl Instances {
    /// The instance of that id.
    pub fn find(&self, id: &str) -> Option<&Instance> {
        self.position(id).ok().map(|n| &self.0[n])
    }

    /// The ids, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &InstanceId> + DoubleEndedIterator {
        self.0.iter().map(Instance::id)
    }

    /// Applies all `changes` in order.
    ///
    /// A slice that is shared is copied first. Up to 16 changes cost O(log n) comparisons and a shift of
    /// the slice each; more are merged in one pass.
    ///
    /// ```
    /// use registry_core::{Change, Instance, Instances};
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let node = Instance::new("user.rpc".parse()?, "a".parse()?, "10.0.0.1:80".parse()?);
    /// let mut instances = Instances::default();
    /// instances.apply([Change::Put(node.clone())].into_iter());
    /// assert_eq!(instances.len(), 1);
    /// instances.apply([Change::Delete(node.id().clone())].into_iter());
    /// assert!(instances.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&mut self, changes: impl ExactSizeIterator<Item = Change>) {
        if changes.len() > MAX_SINGLE_CHANGES {
            let mut sorted: BTreeMap<_, _> = self.by_id();
            for change in changes {
                match change {
                    Change::Put(instance) => sorted.insert(instance.id().clone(), instance),
                    Change::Delete(id) => sorted.remove(&id),
                };
            }
            self.0 = Arc::new(sorted.into_values().collect());
            return;
        }
        for change in changes {
            match (self.position(change.id().as_str()), change) {
                (Ok(n), Change::Put(instance)) => Arc::make_mut(&mut self.0)[n] = instance,
                (Err(n), Change::Put(instance)) => Arc::make_mut(&mut self.0).insert(n, instance),
                (Ok(n), Change::Delete(_)) => {
                    Arc::make_mut(&mut self.0).remove(n);
                }
                (Err(_), Change::Delete(_)) => {}
            }
        }
    }

    fn position(&self, id: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|instance| instance.id().as_str().cmp(id))
    }

    fn by_id(&self) -> BTreeMap<InstanceId, Instance> {
        self.iter().map(|instance| (instance.id().clone(), instance.clone())).collect()
    }
}

impl Deref for Instances {
    type Target = [Instance];

    fn deref(&self) -> &[Instance] {
        &self.0
    }
}

/// Of several instances with one id, the last counts.
impl FromIterator<Instance> for Instances {
    fn from_iter<I: IntoIterator<Item = Instance>>(instances: I) -> Self {
        let mut instances: Vec<Instance> = instances.into_iter().collect();
        let sorted = instances.windows(2).all(|pair| pair[0].id() < pair[1].id());
        if !sorted {
            instances.reverse();
            instances.sort_by(|a, b| a.id().cmp(b.id())); // stable: the last given comes first
            instances.dedup_by(|later, first| later.id() == first.id());
        }
        instances.shrink_to_fit();
        Self(Arc::new(instances))
    }
}

impl<'a> IntoIterator for &'a Instances {
    type Item = &'a Instance;
    type IntoIter = std::slice::Iter<'a, Instance>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn instance(id: u8, weight: u32) -> Instance {
        let id = id.to_string().parse().unwrap();
        Instance::new("a".parse().unwrap(), id, "h:1".parse().unwrap()).with_weight(weight)
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0_u8..40, 0_u32..9).prop_map(|(id, weight)| Change::Put(instance(id, weight))),
            (0_u8..40).prop_map(|id| Change::Delete(id.to_string().parse().unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn applying_changes_gives_what_a_map_gives(
            given in vec((0_u8..40, 0_u32..9), 0..60),
            batches in vec(vec(change(), 0..40), 0..6),
        ) {
            let mut map = BTreeMap::new();
            for (id, weight) in &given {
                map.insert(id.to_string(), instance(*id, *weight));
            }
            let mut ours: Instances = given.iter().map(|(id, weight)| instance(*id, *weight)).collect();
            for batch in batches {
                let before = ours.clone();
                let was: Vec<Instance> = before.to_vec();
                ours.apply(batch.clone().into_iter());
                prop_assert_eq!(&was[..], &before[..], "what others hold does not change");
                for change in batch {
                    match change {
                        Change::Put(instance) => {
                            map.insert(instance.id().to_string(), instance);
                        }
                        Change::Delete(id) => {
                            map.remove(id.as_str());
                        }
                    }
                }
                prop_assert!(ours.iter().eq(map.values()));
                prop_assert!(map.iter().all(|(id, found)| ours.find(id) == Some(found)));
            }
        }
    }
}
