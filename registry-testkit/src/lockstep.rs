//! Runs the same operations on a store and on a model, and compares everything that a caller can see except for
//! revision numbers.
//!
//! Leases are long, so that none expires within a run. Every operation is valid in every state: the number of a
//! lease, a load or a watch is taken modulo their count. So a failing run shrinks to a short one.

mod op;

pub use self::op::{Op, op};

use crate::case::{LONG, next_item, park, service, try_again, version};
use crate::{LostWrites, Subject, Traits};
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, ErrorKind, Holder, Instance, Lease, LeaseId, Record,
    Records, Registry, Result, Revision, ServiceName, Snapshot, Takeover, Watch,
};
use registry_mem::Model;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of operations of a run.
pub const MAX_OPS: usize = 60;

/// Runs `ops` on the store and the model. `run` is a prefix for service names that no other run uses.
///
/// # Panics
///
/// Panics at the first difference between the store and the model.
pub async fn check(subject: &dyn Subject, traits: Traits, run: &str, ops: &[Op]) {
    let mut both = Both::new(subject, traits, run);
    for op in ops {
        both.step(*op).await;
    }
    for n in 0..both.watches.len() {
        both.drain(n).await;
    }
    for service in both.services.clone() {
        both.load(&service).await;
    }
}

/// A store and the model, in the same state except for revision numbers.
struct Both<'a> {
    subject: &'a dyn Subject,
    traits: Traits,
    store: Arc<dyn Registry>,
    model: Model,
    /// The revision of the model at the last compaction of each service.
    compacted: HashMap<ServiceName, Revision>,
    services: [ServiceName; 2],
    claims: HashMap<(u8, u8), LeaseId>,
    /// Leases that were displaced, or whose claim was superseded. A store that checks the record once per ttl may keep
    /// them until they expire.
    lingering: HashSet<LeaseId>,
    leases: Vec<(Lease, Lease)>,
    loads: Vec<(Snapshot, Snapshot)>,
    watches: Vec<Open>,
}

/// An open watch of the store, and the cursor of the model's reader.
struct Open {
    service: ServiceName,
    watch: Option<Watch>,
    after: Cursor,
}

/// Whether a store may report a cursor as compacted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// It must not: all changes after the cursor are kept.
    Yes,
    /// It may: stores number and compact history in different units.
    Maybe,
    /// It must: a change of the service after the cursor was dropped.
    No,
}

const NOW: Duration = Duration::ZERO;

impl<'a> Both<'a> {
    fn new(subject: &'a dyn Subject, traits: Traits, run: &str) -> Self {
        Self {
            subject,
            traits,
            store: subject.registry(),
            // Never compacted: `held` computes what the store may have dropped.
            model: Model::new(1),
            compacted: HashMap::new(),
            services: [format!("{run}/a"), format!("{run}/a/b")].map(|name| service(&name)),
            claims: HashMap::new(),
            lingering: HashSet::new(),
            leases: Vec::new(),
            loads: Vec::new(),
            watches: Vec::new(),
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Register { service, id, version: n, lease, takeover, other_ttl } => {
                let instance =
                    version(&self.services[usize::from(service)], &id.to_string(), n.into());
                let ttl = if other_ttl { LONG + Duration::from_secs(60) } else { LONG };
                let lease = *self.claims.entry((service, lease)).or_insert_with(LeaseId::random);
                let claim = Claim::new(ttl).unwrap().with_lease(lease);
                let refused = self.register(&instance, [claim, claim]).await;
                if let Some(holders) = refused.filter(|_| takeover) {
                    let from = holders.map(|holder| claim.with_takeover(Takeover::From(holder)));
                    let refused = self.register(&instance, from).await;
                    assert_eq!(refused, None, "the holder changed during a takeover");
                    self.lingering.extend(holders[0].lease());
                }
            }
            Op::Holder { service, id } => {
                let one = version(&self.services[usize::from(service)], &id.to_string(), 0);
                let got = self.holder(&one).await;
                let want = self.model.holder(NOW, &one);
                assert_eq!(got.map(|held| held.lease()), want.map(|held| held.lease()));
            }
            Op::KeepAlive(n) => {
                let Some((lease, want)) = pick(&self.leases, n).cloned() else { return };
                let got = try_again(|| self.store.keep_alive(&lease, &CallOptions::DEFAULT));
                let got = got.await;
                let want = self.model.keep_alive(NOW, &want);
                // Between presence checks, a store renews a lease even if its record was displaced.
                let may_renew = self.checks_once_per_ttl()
                    && (self.model.holds(lease.id()) || self.lingering.contains(&lease.id()));
                if !(got.is_ok() && want.is_err() && may_renew) {
                    assert_eq!(kind(&got), kind(&want));
                }
            }
            Op::Deregister(n) => {
                let Some((lease, want)) = pick(&self.leases, n).cloned() else { return };
                let got = try_again(|| self.store.deregister(&lease, &CallOptions::DEFAULT));
                got.await.unwrap();
                self.model.deregister(NOW, &want);
                self.lingering.remove(&lease.id());
            }
            Op::Revoke(n) => {
                let Some((lease, want)) = pick(&self.leases, n).cloned() else { return };
                self.subject.revoke(&lease).await;
                self.model.revoke(NOW, want.id());
                self.lingering.remove(&lease.id());
            }
            Op::Load(n) => {
                let service = self.services[usize::from(n)].clone();
                self.load(&service).await;
            }
            Op::Compact(n) => {
                let service = self.services[usize::from(n)].clone();
                self.subject.compact(&service).await;
                self.compacted.insert(service, self.model.revision());
            }
            Op::Watch(n) => {
                let service = self.services[usize::from(n)].clone();
                let (got, want) = self.load(&service).await;
                let mut watch = self.watch(&service, got.cursor()).await.unwrap();
                park(&mut watch);
                self.watches.push(Open {
                    service,
                    watch: Some(watch),
                    after: want.cursor().clone(),
                });
            }
            Op::Drain(n) if !self.watches.is_empty() => {
                self.drain(usize::from(n) % self.watches.len()).await;
            }
            Op::Drain(_) => {}
            Op::Replay(n) => {
                let Some((got, want)) = pick(&self.loads, n).cloned() else { return };
                self.replay(got, &want).await;
            }
            Op::Cut => self.subject.cut().await,
        }
    }

    /// Registers on the store with the first claim, and on the model with the second. If both are superseded,
    /// returns the holders that the errors name.
    async fn register(&mut self, instance: &Instance, claims: [Claim; 2]) -> Option<[Holder; 2]> {
        let options = CallOptions::default();
        let got = try_again(|| self.store.register(instance, &claims[0], &options)).await;
        let lingers = self.checks_once_per_ttl() && self.lingering.contains(&claims[0].lease());
        if lingers && kind(&got) == Some(ErrorKind::Invalid) {
            return None; // the store still has the lease, with another ttl, although it has no record
        }
        match (got, self.model.register(NOW, instance, &claims[1])) {
            (Ok(got), Ok(want)) => {
                assert_eq!(
                    (got.id(), got.ttl(), got.instance()),
                    (want.id(), want.ttl(), instance)
                );
                self.lingering.remove(&got.id());
                self.leases.push((got, want));
                None
            }
            (Err(got), Err(want)) if want.kind() == ErrorKind::Superseded => {
                assert_eq!(got.kind(), ErrorKind::Superseded, "{got}");
                let holders = [got, want]
                    .map(|error| *error.holder().expect("`Superseded` without a holder"));
                assert_eq!(holders[0].lease(), holders[1].lease());
                assert_eq!(self.holder(instance).await, Some(holders[0]));
                self.lingering.insert(claims[0].lease());
                Some(holders)
            }
            (got, want) => {
                assert_eq!(kind(&got), kind(&want));
                None
            }
        }
    }

    async fn holder(&self, instance: &Instance) -> Option<Holder> {
        let read = try_again(|| self.store.holder(instance, &CallOptions::DEFAULT));
        read.await.unwrap()
    }

    async fn load(&mut self, service: &ServiceName) -> (Snapshot, Snapshot) {
        let got = try_again(|| self.store.load(service, &CallOptions::DEFAULT));
        let loaded = (got.await.unwrap(), self.model.load(NOW, service));
        assert_same_records(loaded.0.records(), loaded.1.records());
        let last = self.loads.iter().rev().find(|(_, want)| of(want) == of(&loaded.1));
        assert!(
            last.is_none_or(|(got, _)| got.cursor().revision() <= loaded.0.cursor().revision())
        );
        self.loads.push(loaded.clone());
        loaded
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch> {
        try_again(|| self.store.watch(service, after, &CallOptions::DEFAULT)).await
    }

    /// Reads the outstanding batches of an open watch. Stops early if the watch is reopened after a disconnect and
    /// finds its cursor compacted.
    async fn drain(&mut self, n: usize) {
        let mut open =
            std::mem::replace(&mut self.watches[n], Open::over(&self.services[0], &self.model));
        for want in self.rest(&open.service, &open.after) {
            let Some(got) = self.next_of(&mut open).await else { break };
            assert_same_changes(&got, &want);
            open.after = want.cursor.clone();
        }
        self.watches[n] = open;
    }

    /// Returns the next batch of an open watch, which is reopened after a disconnect. `None` if its cursor was
    /// compacted.
    async fn next_of(&self, open: &mut Open) -> Option<Arc<Batch>> {
        loop {
            let watch = open.watch.as_mut()?;
            let error = match next_item(watch).await {
                Ok(batch) => return Some(batch),
                Err(error) => error,
            };
            let reopened = match error.kind() {
                ErrorKind::Unavailable => self.watch(&open.service, watch.cursor()).await,
                _ => Err(error),
            };
            open.watch = match reopened {
                Ok(watch) => Some(watch),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
                    assert!(
                        self.held(&open.service, &open.after) != Held::Yes,
                        "compacted, but the history is kept"
                    );
                    None
                }
            };
        }
    }

    /// Watches from an earlier load. Expects exactly the batches after it, unless they may be compacted, and checks
    /// the fold law.
    async fn replay(&mut self, mut got: Snapshot, want: &Snapshot) {
        let service =
            self.services.iter().find(|name| self.origin(name) == of(want)).unwrap().clone();
        let held = self.held(&service, want.cursor());
        let rest = self.rest(&service, want.cursor());
        if rest.is_empty() && held != Held::No {
            return; // the watch would stay pending
        }
        let mut watch = match self.watch(&service, got.cursor()).await {
            Ok(watch) => watch,
            Err(error) => return assert_compacted(&error, held),
        };
        for want in rest {
            match next_item(&mut watch).await {
                Ok(batch) => {
                    assert!(held != Held::No, "a compacted watch returned {batch:?}");
                    assert_same_changes(&batch, &want);
                    got.apply(&batch).unwrap();
                }
                Err(error) => return assert_compacted(&error, held),
            }
        }
        let now = self.load(&service).await.0;
        assert_eq!(got.records(), now.records(), "the fold law");
    }

    fn checks_once_per_ttl(&self) -> bool {
        self.traits.lost_writes != LostWrites::NoticedAtOnce
    }

    fn rest(&mut self, service: &ServiceName, after: &Cursor) -> Vec<Arc<Batch>> {
        self.model.batches(NOW, service, after).unwrap()
    }

    fn held(&self, service: &ServiceName, after: &Cursor) -> Held {
        let newer = |at: Option<&Revision>| at.is_some_and(|at| *at > after.revision());
        if newer(self.compacted.get(service)) {
            let compacted = self.compacted[service];
            let changed = self.model.committed_after(after.revision());
            let dropped = changed
                .filter(|(name, _)| *name == service)
                .any(|(_, batch)| batch.revision() <= compacted);
            return if dropped { Held::No } else { Held::Maybe };
        }
        if newer(self.compacted.values().max()) { Held::Maybe } else { Held::Yes }
    }

    fn origin(&self, service: &ServiceName) -> String {
        of(&self.model.clone().load(NOW, service))
    }
}

impl Open {
    fn over(service: &ServiceName, model: &Model) -> Self {
        let after = model.clone().load(NOW, service).cursor().clone();
        Self { service: service.clone(), watch: None, after }
    }
}

fn assert_compacted(error: &registry_core::Error, held: Held) {
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(held != Held::Yes, "compacted, but the history is kept: {error}");
}

/// Returns the service of a snapshot of the model.
fn of(snapshot: &Snapshot) -> String {
    let cursor = snapshot.cursor().to_string();
    cursor.split(':').nth(3).unwrap_or_default().to_owned()
}

/// Returns whether the record of the store equals that of the model. The ttl may be missing, and revisions differ.
fn is_same(got: &Record, want: &Record) -> bool {
    got.instance() == want.instance()
        && got.lease() == want.lease()
        && (got.ttl().is_none() || got.ttl() == want.ttl())
}

fn assert_same_records(got: &Records, want: &Records) {
    let is_same =
        got.len() == want.len() && got.iter().zip(want).all(|(got, want)| is_same(got, want));
    assert!(is_same, "got {got:?}, want {want:?}");
}

fn assert_same_changes(got: &Batch, want: &Batch) {
    let sorted = |batch: &Batch| {
        let mut changes = batch.changes.clone();
        changes.sort_by(|a, b| a.id().cmp(b.id()));
        changes
    };
    let changes = || sorted(got).into_iter().zip(sorted(want));
    let is_same = changes().all(|pair| match pair {
        (Change::Put(got), Change::Put(want)) => is_same(&got, &want),
        (Change::Delete(got), Change::Delete(want)) => {
            let knows = got.reason().is_some();
            got.id() == want.id() && (!knows || got.reason() == want.reason())
        }
        _ => false,
    });
    assert!(is_same && got.changes.len() == want.changes.len(), "got {got:?}, want {want:?}");
}

fn pick<T>(items: &[T], n: u8) -> Option<&T> {
    items.get(usize::from(n) % items.len().max(1))
}

fn kind<T>(result: &Result<T>) -> Option<ErrorKind> {
    result.as_ref().err().map(registry_core::Error::kind)
}
