//! Snapshots: the state of a service as of one cursor.

use crate::{Batch, Cursor, Error, ErrorKind, Instance, Lineage, Record, Records, Result};

/// All records of a service as of one cursor. Clones share the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    cursor: Cursor,
    records: Records,
    undecodable: usize,
    lineage: Lineage,
}

impl Snapshot {
    /// Returns a snapshot of `records` as of `cursor`.
    pub fn new(cursor: Cursor, records: impl IntoIterator<Item = Record>) -> Self {
        let records = records.into_iter().collect();
        Self { cursor, records, undecodable: 0, lineage: Lineage::default() }
    }

    /// Sets the number of records that were skipped because they cannot be decoded.
    #[must_use]
    pub fn with_undecodable(mut self, count: usize) -> Self {
        self.undecodable = count;
        self
    }

    /// Sets the lineage of the store that answered.
    #[must_use]
    pub fn with_lineage(mut self, lineage: Lineage) -> Self {
        self.lineage = lineage;
        self
    }

    /// Returns the cursor to [watch](crate::Registry::watch) from, so that no change is missed.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Returns the records, in order of id.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Returns the instances, in order of id.
    pub fn instances(
        &self,
    ) -> impl ExactSizeIterator<Item = &Instance> + DoubleEndedIterator + Clone {
        self.records.instances()
    }

    /// Returns the number of records that the load skipped because they cannot be decoded.
    pub fn undecodable(&self) -> usize {
        self.undecodable
    }

    /// Returns the lineage of the store at the load.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Applies a batch and moves to its revision. A batch that the snapshot already contains changes nothing.
    ///
    /// # Errors
    ///
    /// `Invalid` if the batch belongs to another store or service. The snapshot is unchanged then.
    pub fn apply(&mut self, batch: &Batch) -> Result<()> {
        if !batch.cursor.has_origin_of(&self.cursor) {
            let message = format!(
                "the batch belongs to another store or service, snapshot=`{}`, batch=`{}`",
                self.cursor, batch.cursor
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if batch.revision() > self.cursor.revision() {
            self.cursor = batch.cursor.clone();
            self.records.apply(&batch.changes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Deleted, Origin, Revision};

    fn at(service: &str, revision: u64) -> Cursor {
        Origin::new("mem", "", &service.parse().unwrap()).cursor(Revision::new(revision), 0)
    }

    fn record() -> Record {
        let service = "a".parse().unwrap();
        Record::new(Instance::from_parts(service, "1".parse().unwrap(), "h:1".parse().unwrap()))
    }

    #[test]
    fn an_old_batch_changes_nothing() {
        let put = Batch::new(at("a", 2), vec![Change::Put(record())]);
        let delete = Change::Delete(Deleted::new(record().id().clone()));

        let mut snapshot = Snapshot::new(at("a", 1), []);
        snapshot.apply(&put).unwrap();
        assert_eq!(snapshot.records()[..], [record()]);
        snapshot.apply(&Batch::new(at("a", 3), vec![delete])).unwrap();
        snapshot.apply(&put).unwrap();
        assert!(snapshot.records().is_empty(), "an old batch resurrects nothing");
        assert_eq!(snapshot.cursor(), &at("a", 3));
        snapshot.apply(&Batch::progress(at("a", 9))).unwrap();
        assert_eq!(snapshot.cursor(), &at("a", 9));
    }

    #[test]
    fn a_batch_of_another_service_is_refused_and_changes_nothing() {
        let mut snapshot = Snapshot::new(at("a", 1), [record()]);
        let before = snapshot.clone();
        let delete = Change::Delete(Deleted::new(record().id().clone()));
        for foreign in [Batch::new(at("b", 2), vec![delete]), Batch::progress(at("b", 9))] {
            assert_eq!(snapshot.apply(&foreign).unwrap_err().kind(), ErrorKind::Invalid);
            assert_eq!(snapshot, before);
        }
    }
}
