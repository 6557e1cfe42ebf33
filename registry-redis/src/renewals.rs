//! Renewals of a shard's leases: those that come while a call is under way go together in the next.
//!
//! A lone renewal is a call of its own, made by its caller. So one renewal waits for one round trip, and a
//! thousand at once for some ten.

use crate::error::Fault;
use crate::scripts;
use crate::shard::{Shard, member};
use crate::store::{Store, millis};
use registry_core::Lease;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How many leases one call renews: they take the server some 1 ms, in which it serves nobody else.
const MOST: usize = 128;

/// What waits for each shard, by its number.
#[derive(Debug)]
pub(crate) struct Renewals(Box<[Mutex<Queue>]>);

#[derive(Debug, Default)]
struct Queue {
    /// Whether a call is under way.
    is_busy: bool,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    lease: [Vec<u8>; 3],
    answer: oneshot::Sender<Result<(), Fault>>,
}

enum Entered {
    /// It is the caller's to make the call.
    Now([Vec<u8>; 3]),
    /// One of the next calls renews it, and says so here.
    Next(oneshot::Receiver<Result<(), Fault>>),
}

impl Renewals {
    pub(crate) fn new(shards: u8) -> Self {
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// Renews a lease for its whole ttl.
    pub(crate) async fn renew(&self, store: &Arc<Store>, lease: &Lease) -> Result<(), Fault> {
        let shard = store.link.keyspace().shard_of(lease.instance().service());
        let answered = match self.enter(store, shard, arguments(lease)) {
            Entered::Next(answered) => answered,
            Entered::Now(mine) => {
                let turn = Turn { store, shard };
                let outcome = call(store, shard, std::slice::from_ref(&mine)).await;
                drop(turn);
                return outcome?.pop().unwrap_or(Err(Fault::Reply(String::new())));
            }
        };
        let options = store.link.options();
        let deadline = options.connect_deadline + options.request_deadline;
        match timeout(deadline, answered).await {
            Ok(answer) => answer.unwrap_or(Err(Fault::Deadline(deadline))),
            Err(_) => Err(Fault::Deadline(deadline)),
        }
    }

    fn enter(&self, store: &Store, shard: Shard, lease: [Vec<u8>; 3]) -> Entered {
        let mut queue = self.queue(store, shard);
        if !queue.is_busy {
            queue.is_busy = true;
            return Entered::Now(lease);
        }
        let (answer, answered) = oneshot::channel();
        queue.waiting.push(Waiting { lease, answer });
        Entered::Next(answered)
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn queue(&self, store: &Store, shard: Shard) -> MutexGuard<'_, Queue> {
        let queue = &self.0[store.link.keyspace().index(shard)];
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next call is to renew; if that is nothing, no call is under way any more.
    fn next(&self, store: &Store, shard: Shard) -> Option<Vec<Waiting>> {
        let mut queue = self.queue(store, shard);
        // Who gave up waiting is left out.
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let len = queue.waiting.len().min(MOST);
        queue.is_busy = len > 0;
        queue.is_busy.then(|| queue.waiting.drain(..len).collect())
    }
}

/// The call under way. However it ends, and if nobody waits for it any more, it is the next one's turn.
struct Turn<'a> {
    store: &'a Arc<Store>,
    shard: Shard,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(first) = self.store.renewals.next(self.store, self.shard) else { return };
        let (store, shard) = (self.store.clone(), self.shard);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(serve(store, shard, first))),
            // The runtime is gone, and with it those who wait.
            Err(_) => self.store.renewals.queue(&store, shard).is_busy = false,
        }
    }
}

/// Makes one call for several who wait.
async fn serve(store: Arc<Store>, shard: Shard, waiting: Vec<Waiting>) {
    let turn = Turn { store: &store, shard };
    let (leases, answers): (Vec<_>, Vec<_>) =
        waiting.into_iter().map(|waiting| (waiting.lease, waiting.answer)).unzip();
    let outcomes = match call(&store, shard, &leases).await {
        Ok(outcomes) => outcomes,
        Err(fault) => answers.iter().map(|_| Err(fault.clone())).collect(),
    };
    drop(turn);
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        drop(answer.send(outcome)); // who asked may not wait any more
    }
}

/// Renews leases in one call. Gives what became of each.
async fn call(
    store: &Store,
    shard: Shard,
    leases: &[[Vec<u8>; 3]],
) -> Result<Vec<Result<(), Fault>>, Fault> {
    let args: Vec<&[u8]> = leases.iter().flatten().map(Vec::as_slice).collect();
    let statuses: Vec<String> = store.link.write(&scripts::KEEP_ALIVE, shard, &args).await?;
    if statuses.len() != leases.len() {
        return Err(Fault::Reply(format!("{} statuses", statuses.len())));
    }
    let outcome = |status: String| match status.as_str() {
        "OK" => Ok(()),
        "LOST" => Err(Fault::LeaseLost),
        _ => Err(Fault::Reply(status)),
    };
    Ok(statuses.into_iter().map(outcome).collect())
}

/// A lease as the script takes it: member, how its value begins, ttl.
fn arguments(lease: &Lease) -> [Vec<u8>; 3] {
    let ttl = millis(lease.ttl());
    [
        member(lease.instance()).into_bytes(),
        format!("{} {} {ttl} ", lease.revision(), lease.id()).into_bytes(),
        ttl.to_string().into_bytes(),
    ]
}
