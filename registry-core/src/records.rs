//! The records of one service in a shared, sorted slice.

use crate::{Change, Instance, InstanceId, Record};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The maximum number of changes that are applied one by one. More are merged in one pass.
const MAX_SINGLE_CHANGES: usize = 16;

/// The records of one service: a slice sorted by id, with unique ids.
///
/// A clone shares the slice. Changing a shared slice copies it, at the cost of 32 bytes and a reference count for each
/// record.
///
/// ```
/// use registry_core::{Instance, Record, Records};
///
/// # fn main() -> registry_core::Result<()> {
/// let address = "10.0.0.1:80".parse()?;
/// let a = Instance::from_parts("user.rpc".parse()?, "a".parse()?, address);
/// let b = Instance::from_parts("user.rpc".parse()?, "b".parse()?, a.address().clone());
/// let records: Records = [b, a].map(Record::new).into_iter().collect();
/// assert_eq!(records.len(), 2);
/// assert_eq!(records[0].id().as_str(), "a");
/// assert!(records.find("b").is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records(Arc<Vec<Record>>);

impl Records {
    /// Returns the record of the instance with this id.
    pub fn find(&self, id: &str) -> Option<&Record> {
        self.position(id).ok().map(|n| &self.0[n])
    }

    /// Returns the ids in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &InstanceId> + DoubleEndedIterator {
        self.0.iter().map(Record::id)
    }

    /// Returns the instances, in order of id.
    pub fn instances(
        &self,
    ) -> impl ExactSizeIterator<Item = &Instance> + DoubleEndedIterator + Clone {
        self.0.iter().map(Record::instance)
    }

    /// Applies all `changes` in order.
    ///
    /// A shared slice is copied first. Up to 16 changes each cost O(log n) comparisons and a shift of the slice; more
    /// are merged in one pass.
    ///
    /// ```
    /// use registry_core::{Change, Deleted, Instance, Record, Records};
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let node = Instance::from_parts("user.rpc".parse()?, "a".parse()?, "10.0.0.1:80".parse()?);
    /// let mut records = Records::default();
    /// records.apply(&[Change::Put(Record::new(node.clone()))]);
    /// assert_eq!(records.len(), 1);
    /// records.apply(&[Change::Delete(Deleted::new(node.id().clone()))]);
    /// assert!(records.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&mut self, changes: &[Change]) {
        if changes.len() > MAX_SINGLE_CHANGES {
            let mut sorted: BTreeMap<&str, &Record> =
                self.iter().map(|record| (record.id().as_str(), record)).collect();
            for change in changes {
                match change {
                    Change::Put(record) => sorted.insert(record.id().as_str(), record),
                    Change::Delete(deleted) => sorted.remove(deleted.id().as_str()),
                };
            }
            self.0 = Arc::new(sorted.into_values().cloned().collect());
            return;
        }
        for change in changes {
            match (self.position(change.id().as_str()), change) {
                (Ok(n), Change::Put(record)) => Arc::make_mut(&mut self.0)[n] = record.clone(),
                (Err(n), Change::Put(record)) => {
                    Arc::make_mut(&mut self.0).insert(n, record.clone());
                }
                (Ok(n), Change::Delete(_)) => {
                    Arc::make_mut(&mut self.0).remove(n);
                }
                (Err(_), Change::Delete(_)) => {}
            }
        }
    }

    fn position(&self, id: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|record| record.id().as_str().cmp(id))
    }
}

impl Deref for Records {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        &self.0
    }
}

/// If several records have the same id, the last one wins.
impl FromIterator<Record> for Records {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut records: Vec<Record> = records.into_iter().collect();
        let sorted = records.iter().map(|record| record.id().as_str()).is_sorted_by(|a, b| a < b);
        if !sorted {
            records.reverse();
            records.sort_by(|a, b| a.id().cmp(b.id())); // stable: the last record of an id comes first
            records.dedup_by(|later, first| later.id() == first.id());
        }
        records.shrink_to_fit();
        Self(Arc::new(records))
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Deleted;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn record(id: u8, weight: u32) -> Record {
        let id = id.to_string().parse().unwrap();
        let instance = Instance::from_parts("a".parse().unwrap(), id, "h:1".parse().unwrap());
        Record::new(instance.with_weight(weight))
    }

    fn change() -> impl Strategy<Value = Change> {
        let deleted = |id: u8| Change::Delete(Deleted::new(id.to_string().parse().unwrap()));
        prop_oneof![
            (0_u8..40, 0_u32..9).prop_map(|(id, weight)| Change::Put(record(id, weight))),
            (0_u8..40).prop_map(deleted),
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
                map.insert(id.to_string(), record(*id, *weight));
            }
            let mut ours: Records = given.iter().map(|(id, weight)| record(*id, *weight)).collect();
            for batch in batches {
                let before = ours.clone();
                let was: Vec<Record> = before.to_vec();
                ours.apply(&batch);
                prop_assert_eq!(&was[..], &before[..], "a clone does not change");
                for change in batch {
                    match change {
                        Change::Put(record) => {
                            map.insert(record.id().to_string(), record);
                        }
                        Change::Delete(deleted) => {
                            map.remove(deleted.id().as_str());
                        }
                    }
                }
                prop_assert!(ours.iter().eq(map.values()));
                prop_assert!(map.iter().all(|(id, found)| ours.find(id) == Some(found)));
            }
        }
    }
}
