//! Each checker detects a violation of its law, and none rejects a valid history.

use super::*;
use registry_core::{Deleted, Instance, LeaseId, Origin};
use std::time::Duration;

fn at(revision: u64) -> registry_core::Cursor {
    Origin::new("mem", "", &"a".parse().unwrap()).cursor(Revision::new(revision), 0)
}

fn one(id: &str, weight: u32) -> Instance {
    let address = "h:1".parse().unwrap();
    Instance::from_parts("a".parse().unwrap(), id.parse().unwrap(), address).with_weight(weight)
}

fn put(revision: u64, id: &str) -> Arc<Batch> {
    put_as(revision, one(id, 0))
}

fn put_as(revision: u64, instance: Instance) -> Arc<Batch> {
    Arc::new(Batch::new(at(revision), vec![Change::Put(instance.into())]))
}

fn delete(revision: u64, ids: &[&str]) -> Arc<Batch> {
    let deleted = |id: &&str| Change::Delete(Deleted::new(id.parse().unwrap()));
    Arc::new(Batch::new(at(revision), ids.iter().map(deleted).collect()))
}

fn progress(revision: u64) -> Arc<Batch> {
    Arc::new(Batch::progress(at(revision)))
}

fn snapshot<const N: usize>(revision: u64, instances: [Instance; N]) -> Snapshot {
    Snapshot::new(at(revision), instances.map(Record::new))
}

/// 1 and 2 are put, both are deleted at one revision, and 3 is put. A reader reads all of it from revision 0, with
/// progress.
fn good() -> History {
    let canonical = vec![put(1, "1"), put(3, "2"), delete(4, &["1", "2"]), put(7, "3")];
    let mut batches = canonical.clone();
    batches.insert(3, progress(6));
    let start = snapshot(0, []);
    let loads = vec![snapshot(3, [one("1", 0), one("2", 0)]), snapshot(5, [])];
    let lease =
        Lease::new(LeaseId::new(1).unwrap(), Duration::from_secs(1), one("3", 0), Revision::new(7));
    let end = Some(snapshot(7, [one("3", 0)]));
    History {
        canonical,
        readers: vec![Reader { start, batches }],
        acknowledged: vec![lease],
        loads,
        end,
    }
}

#[track_caller]
fn caught(law: &str, check: fn(&History) -> Verdict, spoil: impl FnOnce(&mut History)) {
    let mut history = good();
    spoil(&mut history);
    assert_eq!(check(&history).unwrap_err().law, law);
    assert!(super::check(&history).is_err());
}

#[test]
fn valid_history_passes_every_check() {
    assert_eq!(check(&good()), Ok(()));
}

#[test]
fn every_check_detects_a_violation_of_its_law() {
    caught("ordered", ordered, |h| h.readers[0].batches.swap(0, 1));
    caught("unique", unique, |h| {
        let again = h.readers[0].batches[0].clone();
        h.readers[0].batches.insert(1, again);
    });
    caught("atomic", atomic, |h| h.readers[0].batches[2] = delete(4, &["1"]));
    caught("reliable", reliable, |h| drop(h.readers[0].batches.remove(1)));
    caught("reliable", reliable, |h| h.readers[0].batches.insert(3, put(5, "1")));
    caught("resumable", resumable, |h| h.readers[0].start = snapshot(0, [one("9", 0)]));
    caught("bookmarkable", bookmarkable, |h| h.readers[0].batches[2] = progress(4));
    caught("bookmarkable", bookmarkable, |h| drop(h.readers[0].batches.remove(0)));
    caught("acknowledged", acknowledged, |h| {
        h.canonical[3] = put_as(7, one("3", 9));
    });
    caught("no resurrection", no_resurrection, |h| {
        h.readers[0].batches.insert(4, put_as(6, one("1", 0)));
    });
    caught("loads", loads, |h| h.loads[0] = snapshot(3, [one("1", 0)]));
    caught("converges", converges, |h| drop(h.readers[0].batches.pop()));
}
