//! Batched renewals: those of one shard that arrive while a call is in flight share the next call.
//!
//! A single renewal is its own call, made by its caller. So one renewal takes one round trip, and a thousand
//! concurrent ones take some ten. A runtime may not be driven, so its calls never renew for another runtime.

use crate::deadline::millis;
use crate::deadline::with_deadline;
use crate::error::StoreError;
use crate::scripts;
use crate::shard::{Shard, member};
use crate::store::Store;
use crate::value::acknowledged_prefix;
use registry_core::Lease;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// How many leases one call renews. They occupy the server for about 1 ms.
const MAX_BATCH: usize = 128;

/// Batches the renewals of each shard. A clone is a handle to the same batches.
#[derive(Clone, Debug)]
pub(crate) struct RenewalBatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    queues: Mutex<HashMap<QueueKey, Vec<Pending>>>,
}

/// The runtime of the callers and the shard of their leases. A queue exists while a call is in flight.
type QueueKey = (runtime::Id, Shard);

/// A lease to renew, and the receiver of its outcome. If the runtime of the call shuts down, the sender is
/// dropped without an outcome, and the caller asks again.
#[derive(Debug)]
struct Pending {
    args: LeaseArgs,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// A lease as arguments of the script: the member, the prefix of its value, and the ttl.
type LeaseArgs = [Vec<u8>; 3];

enum Admission {
    /// No call is in flight, so the caller makes one.
    Call(CallGuard, LeaseArgs),
    /// A later call renews the lease and sends the outcome here.
    Wait(oneshot::Receiver<Result<(), StoreError>>),
}

impl RenewalBatcher {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(Arc::new(Inner { store, queues: Mutex::default() }))
    }

    /// Renews a lease for its whole ttl. Returns the granted ttl, which the script has compared.
    pub(crate) async fn renew(&self, lease: &Lease) -> Result<Duration, StoreError> {
        self.renew_in_batch(lease).await.map(|()| lease.ttl())
    }

    async fn renew_in_batch(&self, lease: &Lease) -> Result<(), StoreError> {
        let store = &self.0.store;
        let shard = store.client.keyspace().shard_of(lease.instance().service());
        let options = store.client.options();
        let deadline = options.connect_deadline + options.request_deadline;
        loop {
            let replied = match self.admit(shard, lease_args(lease)) {
                Admission::Wait(replied) => replied,
                Admission::Call(guard, args) => {
                    let outcome = call(store, shard, std::slice::from_ref(&args)).await;
                    drop(guard);
                    let unexpected = || Err(StoreError::UnexpectedReply(String::new()));
                    return outcome?.pop().unwrap_or_else(unexpected);
                }
            };
            let reply = async { Ok::<_, StoreError>(replied.await.ok()) };
            if let Some(outcome) = with_deadline(deadline, reply).await? {
                return outcome;
            }
        }
    }

    fn admit(&self, shard: Shard, args: LeaseArgs) -> Admission {
        let key = (Handle::current().id(), shard);
        match self.queues().entry(key) {
            Entry::Vacant(queue) => {
                queue.insert(Vec::new());
                Admission::Call(CallGuard { batcher: self.clone(), key, has_begun: true }, args)
            }
            Entry::Occupied(mut queue) => {
                let (reply, replied) = oneshot::channel();
                queue.get_mut().push(Pending { args, reply });
                Admission::Wait(replied)
            }
        }
    }

    /// The lock is held for a few assignments that cannot panic.
    fn queues(&self) -> MutexGuard<'_, HashMap<QueueKey, Vec<Pending>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the batch of the next call. Returns `None` if there is none; then no call is in flight any more.
    fn next_batch(&self, key: QueueKey) -> Option<Vec<Pending>> {
        let mut queues = self.queues();
        let queue = queues.get_mut(&key)?;
        // Drops renewals whose caller was cancelled.
        queue.retain(|pending| !pending.reply.is_closed());
        if queue.is_empty() {
            queues.remove(&key);
            return None;
        }
        let len = queue.len().min(MAX_BATCH);
        Some(queue.drain(..len).collect())
    }

    /// Ends the call in flight without an outcome, and makes the waiting callers ask again.
    fn abandon(&self, key: QueueKey) {
        let pending = self.queues().remove(&key);
        drop(pending); // wakes the callers, so only after the lock is released
    }
}

/// A call in flight. When it ends or is cancelled, dropping the guard starts the next one.
struct CallGuard {
    batcher: RenewalBatcher,
    key: QueueKey,
    /// Whether the runtime has started the call.
    has_begun: bool,
}

impl CallGuard {
    /// Makes one call for a batch.
    async fn serve(mut self, batch: Vec<Pending>) {
        self.has_begun = true;
        let (leases, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|pending| (pending.args, pending.reply)).unzip();
        let outcomes = match call(&self.batcher.0.store, self.key.1, &leases).await {
            Ok(outcomes) => outcomes,
            Err(error) => replies.iter().map(|_| Err(error.clone())).collect(),
        };
        drop(self);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            drop(reply.send(outcome)); // the caller may be cancelled
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let own_runtime = Handle::try_current().ok().filter(|runtime| runtime.id() == self.key.0);
        // A runtime that has shut down makes no calls, and no other runtime makes them for it, so its callers
        // ask again.
        let Some(runtime) = own_runtime.filter(|_| self.has_begun) else {
            return self.batcher.abandon(self.key);
        };
        let Some(batch) = self.batcher.next_batch(self.key) else { return };
        let next = Self { batcher: self.batcher.clone(), key: self.key, has_begun: false };
        drop(runtime.spawn(next.serve(batch)));
    }
}

/// Renews leases in one call. Returns the outcome of each lease.
async fn call(
    store: &Store,
    shard: Shard,
    leases: &[LeaseArgs],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let args: Vec<&[u8]> = leases.iter().flatten().map(Vec::as_slice).collect();
    let outcomes: String = store.client.run(&scripts::KEEP_ALIVE, shard, &args).await?;
    if outcomes.len() != leases.len() {
        return Err(StoreError::UnexpectedReply(outcomes));
    }
    let outcome = |outcome: u8| match outcome {
        b'K' => Ok(()),
        b'L' => Err(StoreError::LeaseLost),
        _ => Err(StoreError::UnexpectedReply(outcomes.clone())),
    };
    Ok(outcomes.bytes().map(outcome).collect())
}

fn lease_args(lease: &Lease) -> LeaseArgs {
    let ttl = millis(lease.ttl());
    [
        member(lease.instance()).into_bytes(),
        acknowledged_prefix(lease, ttl).into_bytes(),
        ttl.to_string().into_bytes(),
    ]
}
