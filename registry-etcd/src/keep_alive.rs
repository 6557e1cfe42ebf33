//! Renewals of many leases over a few streams.
//!
//! etcd serves the renewals of a stream one after another, and one of a lease that has expired but is
//! not revoked yet holds up those behind it: for 8.6 s, measured while thousands of leases expired. So
//! there are several streams, and one with a renewal that waits takes no more: another takes its place.
//! Only one renewal at a time opens a stream; others wait for it, so there are never many streams.

use crate::cluster::{Cluster, Connection};
use crate::error::EtcdError;
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use registry_core::LeaseId;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

/// How many streams there are, while none is held up.
const LANES: usize = 4;

/// How many there are in place of one, while all are. A server that is slow with everything gets no
/// more: it would be slower yet.
const MAX_STREAMS: usize = 4;

/// How long a renewal may wait on a stream until those after it take another.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a stream is kept that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The streams of a registry. A clone shares them.
#[derive(Clone, Default)]
pub(crate) struct KeepAliveStreams(Arc<[Lane; LANES]>);

/// The place of one stream, or of several where the first are held up.
#[derive(Default)]
struct Lane {
    streams: Mutex<Vec<Arc<Stream>>>,
    /// Held by whoever opens another, for as long as that is not held up.
    opening: tokio::sync::Mutex<()>,
}

impl KeepAliveStreams {
    /// Renews a lease for its whole ttl. Gives the seconds granted; `None` if the answer opened a stream, since
    /// etcd-client keeps that one to itself.
    pub(crate) async fn renew(
        &self,
        cluster: &Cluster,
        lease: LeaseId,
    ) -> Result<Option<i64>, EtcdError> {
        let lane = &self.0[usize::try_from(lease.get() & 0xff).unwrap_or_default() % LANES];
        cluster.with_deadline(|deadline| lane.renew(cluster, lease, deadline)).await
    }
}

impl Lane {
    async fn renew(
        &self,
        cluster: &Cluster,
        lease: LeaseId,
        deadline: Instant,
    ) -> Result<Option<i64>, EtcdError> {
        if let Some(stream) = self.stream() {
            return stream.renew(cluster, lease, deadline).await;
        }
        let guard = match (self.opening.try_lock(), self.last()) {
            (Ok(guard), _) => guard,
            // Held up as it is: another is on its way.
            (Err(_), Some(stream)) => return stream.renew(cluster, lease, deadline).await,
            (Err(_), None) => self.opening.lock().await,
        };
        match self.stream() {
            Some(stream) => {
                drop(guard);
                stream.renew(cluster, lease, deadline).await
            }
            None => Box::pin(self.open(cluster, lease, guard)).await.map(|()| None),
        }
    }

    fn last(&self) -> Option<Arc<Stream>> {
        lock(&self.streams).last().cloned()
    }

    /// The first stream that is not held up; `None` if another should be opened.
    fn stream(&self) -> Option<Arc<Stream>> {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| !stream.is_closed());
        let fit = streams.iter().find(|stream| !stream.is_stalled());
        fit.or_else(|| streams.last().filter(|_| streams.len() >= MAX_STREAMS)).cloned()
    }

    /// Opens a stream, which takes a renewal. If that stalls too, the next renewal may open another.
    async fn open(
        &self,
        cluster: &Cluster,
        lease: LeaseId,
        guard: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<(), EtcdError> {
        let opened = cluster.call(|connection| async move {
            let mut leases = connection.client().lease_client();
            let (keeper, answers) = leases.keep_alive(lease.get()).await?;
            Ok((keeper, answers, connection))
        });
        let mut opened = pin!(opened);
        let opened = if let Ok(opened) = timeout(STALL_TIMEOUT, &mut opened).await {
            opened
        } else {
            drop(guard);
            opened.await
        };
        let (keeper, answers, connection) = opened?;
        let mut streams = lock(&self.streams);
        if streams.len() < MAX_STREAMS {
            let stream = Arc::new(Stream::new(keeper, connection));
            tokio::spawn(stream.clone().run(answers));
            streams.push(stream);
        }
        Ok(())
    }
}

/// One stream, and those who wait for an answer on it.
struct Stream {
    connection: Arc<Connection>,
    keeper: tokio::sync::Mutex<LeaseKeeper>,
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    /// Those who wait, in the order in which they asked: that of the answers.
    pending: VecDeque<PendingRenewal>,
    is_closed: bool,
}

struct PendingRenewal {
    lease: LeaseId,
    since: Instant,
    answer: oneshot::Sender<Result<i64, EtcdError>>,
}

impl Stream {
    fn new(keeper: LeaseKeeper, connection: Arc<Connection>) -> Self {
        let (keeper, requests) = (tokio::sync::Mutex::new(keeper), Mutex::default());
        Self { connection, keeper, requests }
    }

    fn is_closed(&self) -> bool {
        lock(&self.requests).is_closed
    }

    /// Whether somebody has waited for long.
    fn is_stalled(&self) -> bool {
        let requests = lock(&self.requests);
        requests.pending.front().is_some_and(|oldest| oldest.since.elapsed() >= STALL_TIMEOUT)
    }

    async fn renew(
        &self,
        cluster: &Cluster,
        lease: LeaseId,
        deadline: Instant,
    ) -> Result<Option<i64>, EtcdError> {
        let attempt = cluster.attempt(&self.connection, deadline);
        let answer = async {
            let answer = self.send(lease, attempt.start()).await?;
            answer.await.unwrap_or(Err(EtcdError::StreamEnded))
        };
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            never = attempt.doubt() => match never {},
        };
        attempt.finish_recorded();
        answer.map(Some)
    }

    /// Sends a renewal, and gives where its outcome comes.
    async fn send(
        &self,
        lease: LeaseId,
        since: Instant,
    ) -> Result<oneshot::Receiver<Result<i64, EtcdError>>, EtcdError> {
        // One at a time, so that they are sent in the order in which they wait.
        let mut keeper = self.keeper.lock().await;
        let (answer, answered) = oneshot::channel();
        {
            let mut requests = lock(&self.requests);
            if requests.is_closed {
                return Err(EtcdError::StreamEnded);
            }
            requests.pending.push_back(PendingRenewal { lease, since, answer });
        }
        let unsent = UnsentGuard(&self.requests);
        keeper.id = lease.get();
        keeper.keep_alive().await?;
        unsent.sent();
        Ok(answered)
    }

    /// Hands answers to those who wait, until the stream ends or nobody has used it for long.
    async fn run(self: Arc<Self>, mut answers: LeaseKeepAliveStream) {
        let mut ended = pin!(self.connection.closed());
        let mut last = Instant::now();
        let mut idle = pin!(sleep_until(last + IDLE_TIMEOUT));
        let end = loop {
            let answer = tokio::select! {
                biased; // the others are looked at while there is no answer, and only then
                answer = answers.message() => answer,
                () = &mut ended => break EtcdError::StreamEnded,
                () = &mut idle => {
                    if last.elapsed() >= IDLE_TIMEOUT {
                        if self.close_if_idle() {
                            return;
                        }
                        last = Instant::now();
                    }
                    idle.as_mut().reset(last + IDLE_TIMEOUT);
                    continue;
                }
            };
            last = Instant::now();
            match answer {
                Ok(Some(answer)) => {
                    let Some(waiting) = lock(&self.requests).pending.pop_front() else {
                        break EtcdError::Malformed("a renewal that it answers");
                    };
                    if waiting.lease.get() != answer.id() {
                        drop(waiting.answer.send(Err(EtcdError::StreamEnded)));
                        break EtcdError::Malformed("the lease whose turn it is");
                    }
                    // A lease that is not there has no ttl.
                    let ttl = Some(answer.ttl()).filter(|ttl| *ttl > 0);
                    let outcome = ttl.ok_or(EtcdError::LeaseNotFound);
                    drop(waiting.answer.send(outcome)); // who asked may not wait any more
                }
                Ok(None) => break EtcdError::StreamEnded,
                Err(error) => break error.into(),
            }
        };
        let waiting = {
            let mut requests = lock(&self.requests);
            requests.is_closed = true;
            std::mem::take(&mut requests.pending)
        };
        tracing::debug!(error = %end, waiting = waiting.len(), "a stream of renewals ended");
        // That nobody answers any more is what they all hear: they are dropped.
    }

    fn close_if_idle(&self) -> bool {
        let mut requests = lock(&self.requests);
        requests.is_closed = requests.pending.is_empty();
        requests.is_closed
    }
}

/// The last who waits, until its renewal is sent. If that is given up, there will be no answer.
struct UnsentGuard<'a>(&'a Mutex<Requests>);

impl UnsentGuard<'_> {
    fn sent(self) {
        std::mem::forget(self);
    }
}

impl Drop for UnsentGuard<'_> {
    fn drop(&mut self) {
        lock(self.0).pending.pop_back();
    }
}

/// Held for a few assignments, and nothing panics meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EtcdOptions, EtcdRegistry};
    use registry_core::{CallOptions, Claim, Instance, Registry};
    use registry_testbed::servers::Etcd;
    use tokio::task::yield_now;
    use tokio::time;

    /// As if so much time had passed here; none has at the server.
    async fn pass(duration: Duration) {
        time::pause();
        time::advance(duration).await;
        time::resume();
        for _ in 0..100 {
            yield_now().await; // whoever was waiting for it has run
        }
    }

    #[tokio::test]
    async fn idle_stream_is_closed() {
        let server = Etcd::start().await.unwrap();
        // Nothing but the time of disuse is to pass.
        let options = EtcdOptions { ping_interval: 100 * IDLE_TIMEOUT, ..EtcdOptions::default() };
        let url = server.url().parse().unwrap();
        let registry = EtcdRegistry::connect_with(&url, options).await.unwrap();
        let address = "10.0.0.1:80".parse().unwrap();
        let one = Instance::new("user".parse().unwrap(), "1".parse().unwrap(), address);
        let claim = Claim::new(10 * IDLE_TIMEOUT).unwrap();
        registry.register(&one, &claim, &CallOptions::DEFAULT).await.unwrap();

        let client = registry.runtimes.connections().unwrap().client;
        let (streams, cluster) = (KeepAliveStreams::default(), client.cluster());
        streams.renew(cluster, claim.lease()).await.unwrap();
        let stream = streams.0.iter().find_map(Lane::last).unwrap();
        let almost_idle = IDLE_TIMEOUT.mul_f64(0.95);
        for _ in 0..3 {
            pass(almost_idle).await;
            assert!(!stream.is_closed(), "it was used less than that ago");
            streams.renew(cluster, claim.lease()).await.unwrap();
            assert!(Arc::ptr_eq(&stream, &streams.0.iter().find_map(Lane::last).unwrap()));
        }
        pass(IDLE_TIMEOUT).await;
        assert!(stream.is_closed());
        streams.renew(cluster, claim.lease()).await.unwrap();
        assert!(!Arc::ptr_eq(&stream, &streams.0.iter().find_map(Lane::last).unwrap()));
    }
}
