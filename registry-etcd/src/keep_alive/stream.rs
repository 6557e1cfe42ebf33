//! One keep-alive stream and the task that sends its renewals and dispatches the responses.
//!
//! One task sends for all waiting callers. If each caller sent its own renewal in turn, thousands of futures
//! in one task would be polled for each renewal sent: that reached only 500 renewals a second, measured after
//! an etcd was paused for 5 s.

use crate::cluster::{Cluster, Connection};
use crate::error::EtcdError;
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use registry_core::{LeaseId, printable};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// How long a renewal may wait on a stream before later ones use another stream.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long an unused stream stays open.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream and the renewals that wait on it.
pub(super) struct Stream {
    connection: Arc<Connection>,
    requests: Mutex<Requests>,
    /// Notified when there is something to send.
    added: Notify,
}

#[derive(Default)]
struct Requests {
    /// Renewals that are not sent yet, in order.
    unsent: VecDeque<PendingRenewal>,
    /// Renewals in flight. Responses arrive in the same order.
    pending: VecDeque<PendingRenewal>,
    is_closed: bool,
}

struct PendingRenewal {
    lease: LeaseId,
    since: Instant,
    deadline: Instant,
    answer: oneshot::Sender<Result<i64, EtcdError>>,
}

impl Stream {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, requests: Mutex::default(), added: Notify::new() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Returns whether a renewal has waited longer than [`STALL_TIMEOUT`].
    pub(super) fn is_stalled(&self) -> bool {
        self.oldest().is_some_and(|(since, _)| since.elapsed() >= STALL_TIMEOUT)
    }

    /// Returns the granted ttl in seconds.
    pub(super) async fn renew(
        &self,
        cluster: &Cluster,
        lease: LeaseId,
        deadline: Instant,
    ) -> Result<i64, EtcdError> {
        let attempt = cluster.attempt(&self.connection, deadline);
        let answered = self.add(lease, attempt.start(), deadline);
        let answer = match answered {
            Some(answered) => answered.await.unwrap_or(Err(EtcdError::StreamEnded)),
            None => Err(EtcdError::StreamEnded),
        };
        attempt.finish_recorded();
        answer
    }

    /// Queues a renewal. Returns the receiver of its outcome, or `None` if the stream has ended.
    fn add(
        &self,
        lease: LeaseId,
        since: Instant,
        deadline: Instant,
    ) -> Option<oneshot::Receiver<Result<i64, EtcdError>>> {
        let (answer, answered) = oneshot::channel();
        let mut requests = self.lock();
        if requests.is_closed {
            return None;
        }
        requests.unsent.push_back(PendingRenewal { lease, since, deadline, answer });
        drop(requests);
        self.added.notify_one();
        Some(answered)
    }

    /// Sends renewals and dispatches responses until the stream ends or is idle for too long.
    pub(super) async fn run(
        self: Arc<Self>,
        cluster: Cluster,
        keeper: LeaseKeeper,
        answers: LeaseKeepAliveStream,
    ) {
        let end = tokio::select! {
            biased;
            end = self.dispatch(answers) => end,
            end = self.send(keeper) => Some(end),
            () = self.connection.closed() => Some(EtcdError::StreamEnded),
            never = self.suspect_when_silent(&cluster) => match never {},
        };
        let Some(end) = end else { return };
        let mut requests = self.lock();
        requests.is_closed = true;
        let (unsent, pending) = (take(&mut requests.unsent), take(&mut requests.pending));
        drop(requests);
        let waiting = unsent.len() + pending.len();
        let error = end.to_string();
        tracing::debug!(error = %printable(&error), waiting, "a keep-alive stream ended");
        // Dropping the waiting renewals makes them fail.
    }

    /// Sends queued renewals. Returns why it can no longer send.
    async fn send(&self, mut keeper: LeaseKeeper) -> EtcdError {
        loop {
            let Some(lease) = self.next_unsent() else {
                self.added.notified().await;
                continue;
            };
            keeper.id = lease.get();
            if let Err(error) = keeper.keep_alive().await {
                return error.into();
            }
        }
    }

    /// Takes the next renewal to send, and marks it as in flight. Cancelled renewals are skipped.
    fn next_unsent(&self) -> Option<LeaseId> {
        let mut requests = self.lock();
        while let Some(next) = requests.unsent.pop_front() {
            if !next.answer.is_closed() {
                let lease = next.lease;
                requests.pending.push_back(next);
                return Some(lease);
            }
        }
        None
    }

    /// Dispatches responses to the waiting renewals. Returns why the stream ended, or `None` if it was idle
    /// for too long.
    async fn dispatch(&self, mut answers: LeaseKeepAliveStream) -> Option<EtcdError> {
        let mut last = Instant::now();
        let mut idle = pin!(sleep_until(last + IDLE_TIMEOUT));
        loop {
            let answer = tokio::select! {
                biased; // the idle timeout only counts while no response is ready
                answer = answers.message() => answer,
                () = &mut idle => {
                    if last.elapsed() >= IDLE_TIMEOUT {
                        if self.close_if_idle() {
                            return None;
                        }
                        last = Instant::now();
                    }
                    idle.as_mut().reset(last + IDLE_TIMEOUT);
                    continue;
                }
            };
            last = Instant::now();
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => return Some(EtcdError::StreamEnded),
                Err(error) => return Some(error.into()),
            };
            let Some(waiting) = self.lock().pending.pop_front() else {
                return Some(EtcdError::Malformed("a renewal request that it answers"));
            };
            if waiting.lease.get() != answer.id() {
                drop(waiting.answer.send(Err(EtcdError::StreamEnded)));
                return Some(EtcdError::Malformed("the lease id that was next in order"));
            }
            // A lease that does not exist has no ttl.
            let ttl = Some(answer.ttl()).filter(|ttl| *ttl > 0);
            let outcome = ttl.ok_or(EtcdError::LeaseNotFound);
            drop(waiting.answer.send(outcome)); // the caller may have given up
        }
    }

    fn close_if_idle(&self) -> bool {
        let mut requests = self.lock();
        requests.is_closed = requests.pending.is_empty() && requests.unsent.is_empty();
        requests.is_closed
    }

    /// Suspects the connection on behalf of all waiting renewals. Never returns.
    async fn suspect_when_silent(&self, cluster: &Cluster) -> Infallible {
        cluster
            .suspect_when_silent(&self.connection, || self.oldest().map(|(_, deadline)| deadline))
            .await
    }

    /// Returns the start and the deadline of the oldest waiting renewal.
    fn oldest(&self) -> Option<(Instant, Instant)> {
        let requests = self.lock();
        let oldest = requests.pending.front().or_else(|| requests.unsent.front());
        oldest.map(|oldest| (oldest.since, oldest.deadline))
    }

    /// The lock is held for a few assignments that cannot panic.
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
