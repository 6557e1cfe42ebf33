//! Snapshots: a service as of one cursor.

use crate::{Batch, Cursor, Instance, Instances};

/// The instances of a service, all as of one cursor. A clone shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    cursor: Cursor,
    instances: Instances,
    undecodable: usize,
}

impl Snapshot {
    /// The `instances` as of `cursor`.
    pub fn new(cursor: Cursor, instances: impl IntoIterator<Item = Instance>) -> Self {
        Self { cursor, instances: instances.into_iter().collect(), undecodable: 0 }
    }

    /// States how many records of the service were skipped because they cannot be decoded.
    #[must_use]
    pub fn with_undecodable(mut self, count: usize) -> Self {
        self.undecodable = count;
        self
    }

    /// What to [watch](crate::Registry::watch) after, to miss nothing.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The instances, in order of id.
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// How many records of the service were skipped at the load because they cannot be decoded.
    pub fn undecodable(&self) -> usize {
        self.undecodable
    }

    /// Moves on to the batch's revision. A batch it already covers changes nothing.
    pub fn apply(&mut self, batch: Batch) {
        if batch.revision() <= self.cursor.revision() {
            return;
        }
        self.cursor = batch.cursor;
        self.instances.apply(batch.changes.into_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Origin, Revision};

    #[test]
    fn applying_a_batch_twice_is_applying_it_once() {
        let service = "a".parse().unwrap();
        let origin = Origin::new("mem", "", &service);
        let at = |revision| origin.cursor(Revision::new(revision), 0);
        let one = Instance::new(service.clone(), "1".parse().unwrap(), "h:1".parse().unwrap());
        let put = Batch::new(at(2), vec![Change::Put(one.clone())]);
        let delete = Batch::new(at(3), vec![Change::Delete(one.id().clone())]);

        let mut snapshot = Snapshot::new(at(1), []);
        snapshot.apply(put.clone());
        assert_eq!(snapshot.instances()[..], [one]);
        snapshot.apply(delete);
        snapshot.apply(put);
        assert!(snapshot.instances().is_empty(), "an old batch resurrects nothing");
        assert_eq!(snapshot.cursor(), &at(3));
        snapshot.apply(Batch::progress(at(9)));
        assert_eq!(snapshot.cursor(), &at(9));
    }
}
