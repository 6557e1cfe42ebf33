//! One stream, whose task sends renewals and hands out the answers.
//!
//! The task does that for all who wait. If each sent for itself, one after the other, thousands of renewals that wait in one
//! task would be polled for each that is sent: 500 were sent a second, measured after an etcd stood still for 5 s.

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

/// How long a renewal may wait on a stream until those after it take another.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a stream is kept that nobody uses.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream, and those who wait for an answer on it.
pub(super) struct Stream {
    connection: Arc<Connection>,
    requests: Mutex<Requests>,
    /// Notified when there is something to send.
    added: Notify,
}

#[derive(Default)]
struct Requests {
    /// Those that are still to be sent, in order.
    unsent: VecDeque<PendingRenewal>,
    /// Those who wait for an answer, in the order in which they asked: that of the answers.
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

    /// Whether somebody has waited for long.
    pub(super) fn is_stalled(&self) -> bool {
        self.oldest().is_some_and(|(since, _)| since.elapsed() >= STALL_TIMEOUT)
    }

    /// Gives the seconds granted.
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

    /// Has a renewal sent. Gives where its outcome comes; `None` if the stream has ended.
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

    /// Sends renewals and hands out answers, until the stream ends or nobody has used it for long.
    pub(super) async fn run(
        self: Arc<Self>,
        cluster: Cluster,
        keeper: LeaseKeeper,
        answers: LeaseKeepAliveStream,
    ) {
        let end = tokio::select! {
            biased;
            end = self.hand_out(answers) => end,
            end = self.send(keeper) => Some(end),
            () = self.connection.closed() => Some(EtcdError::StreamEnded),
            never = self.doubt(&cluster) => match never {},
        };
        let Some(end) = end else { return };
        let mut requests = self.lock();
        requests.is_closed = true;
        let (unsent, pending) = (take(&mut requests.unsent), take(&mut requests.pending));
        drop(requests);
        let waiting = unsent.len() + pending.len();
        let error = end.to_string();
        tracing::debug!(error = %printable(&error), waiting, "a stream of renewals ended");
        // That nobody answers any more is what they all hear: they are dropped.
    }

    /// Sends what is to be sent. Gives why it cannot any more.
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

    /// The next renewal to send, whose answer is waited for from now on. One that was given up is not sent.
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

    /// Hands answers to those who wait. Gives why there are no more, or `None` after nobody has used the stream for long.
    async fn hand_out(&self, mut answers: LeaseKeepAliveStream) -> Option<EtcdError> {
        let mut last = Instant::now();
        let mut idle = pin!(sleep_until(last + IDLE_TIMEOUT));
        loop {
            let answer = tokio::select! {
                biased; // the other is looked at while there is no answer, and only then
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
                return Some(EtcdError::Malformed("a renewal that it answers"));
            };
            if waiting.lease.get() != answer.id() {
                drop(waiting.answer.send(Err(EtcdError::StreamEnded)));
                return Some(EtcdError::Malformed("the lease whose turn it is"));
            }
            // A lease that is not there has no ttl.
            let ttl = Some(answer.ttl()).filter(|ttl| *ttl > 0);
            let outcome = ttl.ok_or(EtcdError::LeaseNotFound);
            drop(waiting.answer.send(outcome)); // who asked may not wait any more
        }
    }

    fn close_if_idle(&self) -> bool {
        let mut requests = self.lock();
        requests.is_closed = requests.pending.is_empty() && requests.unsent.is_empty();
        requests.is_closed
    }

    /// Doubts the connection for all who wait. It has no end.
    async fn doubt(&self, cluster: &Cluster) -> Infallible {
        cluster.doubt(&self.connection, || self.oldest().map(|(_, deadline)| deadline)).await
    }

    /// Since when and up to when anybody waits.
    fn oldest(&self) -> Option<(Instant, Instant)> {
        let requests = self.lock();
        let oldest = requests.pending.front().or_else(|| requests.unsent.front());
        oldest.map(|oldest| (oldest.since, oldest.deadline))
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
