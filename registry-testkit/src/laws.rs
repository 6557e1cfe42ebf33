//! Checks recorded histories against the laws, without a model. The laws hold for any concurrent run, and for any
//! outcome of the calls that failed.

use registry_core::{Batch, Change, InstanceId, Lease, Record, Records, Revision, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A recorded history of one service.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All batches, from a watch that was open from the start to the end without an interruption.
    pub canonical: Vec<Arc<Batch>>,
    /// Readers that were interrupted and resumed.
    pub readers: Vec<Reader>,
    /// The acknowledged puts of all writers. Each was made at the revision of its lease.
    pub acknowledged: Vec<Lease>,
    /// Loads at any time.
    pub loads: Vec<Snapshot>,
    /// A load after all writers had stopped.
    pub end: Option<Snapshot>,
}

/// A reader: its first load, and all batches it read over one or more watches.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The load that the reader started with.
    pub start: Snapshot,
    /// All batches, including progress.
    pub batches: Vec<Arc<Batch>>,
}

/// A violated law, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the law.
    pub law: &'static str,
    /// The batches, leases or snapshots that violate it.
    pub seen: String,
}

/// The result of a check. The error is the first violation.
pub type Verdict = Result<(), Violation>;

/// Checks every law.
///
/// # Errors
///
/// The first [`Violation`].
pub fn check(history: &History) -> Verdict {
    let checks = [
        ordered,
        unique,
        atomic,
        reliable,
        resumable,
        bookmarkable,
        acknowledged,
        no_resurrection,
        loads,
        converges,
    ];
    checks.iter().try_for_each(|check| check(history))
}

/// Revisions strictly increase in every stream.
pub fn ordered(history: &History) -> Verdict {
    for batches in streams(history) {
        if let Some(pair) = batches.windows(2).find(|pair| pair[0].revision() >= pair[1].revision())
        {
            return violation("ordered", &pair);
        }
    }
    Ok(())
}

/// No stream has a change twice.
pub fn unique(history: &History) -> Verdict {
    for batches in streams(history) {
        let mut seen = BTreeSet::new();
        for batch in batches {
            if let Some(change) =
                batch.changes.iter().find(|change| !seen.insert((batch.revision(), change.id())))
            {
                return violation("unique", &(batch.revision(), change));
            }
        }
    }
    Ok(())
}

/// Every reader gets the same complete set of changes of a revision.
pub fn atomic(history: &History) -> Verdict {
    let canonical = by_revision(&history.canonical);
    for reader in &history.readers {
        for batch in changing(&reader.batches) {
            if canonical.get(&batch.revision()).is_some_and(|whole| by_id(whole) != by_id(batch)) {
                return violation("atomic", batch);
            }
        }
    }
    Ok(())
}

/// A reader gets exactly the changes between its first and its last cursor.
pub fn reliable(history: &History) -> Verdict {
    for reader in &history.readers {
        let Some(last) = reader.batches.last().map(|batch| batch.revision()) else { continue };
        let first = reader.start.cursor().revision();
        let want = changing(&history.canonical)
            .filter(|batch| batch.revision() > first && batch.revision() <= last);
        let (want, got): (Vec<_>, Vec<_>) = (
            want.map(Batch::revision).collect(),
            changing(&reader.batches).map(Batch::revision).collect(),
        );
        if want != got {
            return violation("reliable", &(want, got));
        }
    }
    Ok(())
}

/// A reader's snapshot with its batches applied equals, at each cursor, the state of the canonical history.
pub fn resumable(history: &History) -> Verdict {
    for reader in &history.readers {
        let mut view = reader.start.clone();
        for batch in &reader.batches {
            apply(&mut view, batch)?;
            if *view.records() != state_at(history, view.cursor().revision()) {
                return violation("resumable", batch);
            }
        }
    }
    Ok(())
}

/// Progress to a revision means that the reader got all changes up to it.
pub fn bookmarkable(history: &History) -> Verdict {
    for reader in &history.readers {
        let mut given = reader.start.cursor().revision();
        for batch in &reader.batches {
            let missed = changing(&history.canonical)
                .find(|missed| missed.revision() > given && missed.revision() < batch.revision());
            let missed = missed.or_else(|| {
                let at = changing(&history.canonical)
                    .find(|missed| missed.revision() == batch.revision())?;
                batch.is_progress().then_some(at)
            });
            if let Some(missed) = missed {
                return violation("bookmarkable", &(missed, batch));
            }
            given = batch.revision();
        }
    }
    Ok(())
}

/// Every acknowledged put is in the history, at its revision and unchanged.
pub fn acknowledged(history: &History) -> Verdict {
    let canonical = by_revision(&history.canonical);
    for lease in &history.acknowledged {
        let is_put =
            |change: &Change| matches!(change, Change::Put(record) if is_of(record, lease));
        if !canonical.get(&lease.revision()).is_some_and(|batch| batch.changes.iter().any(is_put)) {
            return violation("acknowledged", lease);
        }
    }
    Ok(())
}

/// A reader sees no put that the canonical history does not have at that revision: a deleted record stays deleted.
pub fn no_resurrection(history: &History) -> Verdict {
    let canonical = by_revision(&history.canonical);
    for batch in history.readers.iter().flat_map(|reader| changing(&reader.batches)) {
        let known = canonical.get(&batch.revision()).map_or(&[][..], |known| &known.changes);
        let puts = batch.changes.iter().filter(|change| matches!(change, Change::Put(_)));
        if let Some(change) = puts.into_iter().find(|change| !known.contains(change)) {
            return violation("no resurrection", &(batch.revision(), change));
        }
    }
    Ok(())
}

/// Every load equals the state of the canonical history at its cursor.
pub fn loads(history: &History) -> Verdict {
    for load in history.loads.iter().chain(&history.end) {
        if *load.records() != state_at(history, load.cursor().revision()) {
            return violation("loads", load);
        }
    }
    Ok(())
}

/// Every reader ends with the records of the last load.
pub fn converges(history: &History) -> Verdict {
    let Some(end) = &history.end else { return Ok(()) };
    for reader in &history.readers {
        let mut view = reader.start.clone();
        for batch in &reader.batches {
            apply(&mut view, batch)?;
        }
        if view.records() != end.records() {
            return violation("converges", &(view, end));
        }
    }
    Ok(())
}

fn streams(history: &History) -> impl Iterator<Item = &Vec<Arc<Batch>>> {
    [&history.canonical].into_iter().chain(history.readers.iter().map(|reader| &reader.batches))
}

/// Returns whether `record` is the put that was acknowledged with `lease`.
fn is_of(record: &Record, lease: &Lease) -> bool {
    record.instance() == lease.instance()
        && record.lease().is_none_or(|id| id == lease.id())
        && record.ttl().is_none_or(|ttl| ttl == lease.ttl())
        && record.revision().is_none_or(|revision| revision == lease.revision())
}

fn apply(view: &mut Snapshot, batch: &Batch) -> Verdict {
    match view.apply(batch) {
        Ok(()) => Ok(()),
        Err(error) => violation("one origin", &error),
    }
}

fn changing(batches: &[Arc<Batch>]) -> impl Iterator<Item = &Batch> {
    batches.iter().map(|batch| &**batch).filter(|batch| !batch.is_progress())
}

fn by_revision(batches: &[Arc<Batch>]) -> BTreeMap<Revision, &Batch> {
    changing(batches).map(|batch| (batch.revision(), batch)).collect()
}

fn by_id(batch: &Batch) -> BTreeMap<&InstanceId, &Change> {
    batch.changes.iter().map(|change| (change.id(), change)).collect()
}

/// Returns the state at `revision` by the canonical history, which starts with an empty service.
fn state_at(history: &History, revision: Revision) -> Records {
    let mut state = BTreeMap::<InstanceId, _>::new();
    for change in history
        .canonical
        .iter()
        .take_while(|batch| batch.revision() <= revision)
        .flat_map(|b| &b.changes)
    {
        match change {
            Change::Put(record) => state.insert(record.id().clone(), record.clone()),
            Change::Delete(deleted) => state.remove(deleted.id()),
        };
    }
    state.into_values().collect()
}

fn violation(law: &'static str, seen: &dyn std::fmt::Debug) -> Verdict {
    Err(Violation { law, seen: format!("{seen:?}") })
}

#[cfg(test)]
mod tests;
