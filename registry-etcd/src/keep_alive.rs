//! Renewals of many leases over a few streams.
//!
//! etcd serves the renewals of a stream one after another. A renewal of an expired lease that is not revoked
//! yet blocks those behind it: for 8.6 s, measured while thousands of leases expired. So there are several
//! streams, and a stalled stream accepts no more renewals while another replaces it. Only one renewal at a
//! time opens a stream and others wait for it, which bounds the number of streams.

mod stream;

use self::stream::{STALL_TIMEOUT, Stream};
use crate::cluster::Cluster;
use crate::error::EtcdError;
use registry_core::LeaseId;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, timeout};

/// The number of streams while none is stalled.
const LANES: usize = 4;

/// The limit of streams per lane, if all of them stall. More would slow down an overloaded server further.
const MAX_STREAMS: usize = 4;

/// The streams of a registry. A clone shares them.
#[derive(Clone, Default)]
pub(crate) struct KeepAliveStreams(Arc<[Lane; LANES]>);

/// The slot of one stream, or of several if the first ones are stalled.
#[derive(Default)]
struct Lane {
    streams: Mutex<Vec<Arc<Stream>>>,
    /// The lock is held by the renewal that opens a stream, until that stream stalls.
    opening: tokio::sync::Mutex<()>,
}

impl KeepAliveStreams {
    /// Renews a lease for its whole ttl. Returns the granted ttl in seconds, or `None` if this renewal opened
    /// a stream, since etcd-client consumes that response.
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
            return stream.renew(cluster, lease, deadline).await.map(Some);
        }
        let guard = match (self.opening.try_lock(), self.last()) {
            (Ok(guard), _) => guard,
            // The stream is stalled, but another one is being opened.
            (Err(_), Some(stream)) => {
                return stream.renew(cluster, lease, deadline).await.map(Some);
            }
            (Err(_), None) => self.opening.lock().await,
        };
        match self.stream() {
            Some(stream) => {
                drop(guard);
                stream.renew(cluster, lease, deadline).await.map(Some)
            }
            None => Box::pin(self.open(cluster, lease, guard)).await.map(|()| None),
        }
    }

    fn last(&self) -> Option<Arc<Stream>> {
        lock(&self.streams).last().cloned()
    }

    /// Returns the first stream that is not stalled, or `None` if another should be opened.
    fn stream(&self) -> Option<Arc<Stream>> {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| !stream.is_closed());
        let fit = streams.iter().find(|stream| !stream.is_stalled());
        fit.or_else(|| streams.last().filter(|_| streams.len() >= MAX_STREAMS)).cloned()
    }

    /// Opens a stream with a first renewal. If that stalls too, the next renewal may open another stream.
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
            let stream = Arc::new(Stream::new(connection));
            tokio::spawn(stream.clone().run(cluster.clone(), keeper, answers));
            streams.push(stream);
        }
        Ok(())
    }
}

/// The lock is held for a few assignments that cannot panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::stream::IDLE_TIMEOUT;
    use super::*;
    use crate::{EtcdOptions, EtcdRegistry};
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;
    use registry_core::{CallOptions, Claim, Instance, Registry};
    use registry_testbed::servers::Etcd;
    use registry_testkit::lag;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::task::yield_now;
    use tokio::time;

    /// Advances the client's clock, but not the server's.
    async fn pass(duration: Duration) {
        time::pause();
        time::advance(duration).await;
        time::resume();
        for _ in 0..100 {
            yield_now().await; // lets tasks that wait for that time run
        }
    }

    /// Returns a registry and the claim of an instance registered in it.
    async fn registered(server: &Etcd, options: EtcdOptions) -> (EtcdRegistry, Claim) {
        let url = server.url().parse().unwrap();
        let registry = EtcdRegistry::connect_with(&url, options).await.unwrap();
        let address = "10.0.0.1:80".parse().unwrap();
        let one = Instance::from_parts("user".parse().unwrap(), "1".parse().unwrap(), address);
        let claim = Claim::new(10 * IDLE_TIMEOUT).unwrap();
        registry.register(&one, &claim, &CallOptions::DEFAULT).await.unwrap();
        (registry, claim)
    }

    #[tokio::test]
    async fn idle_stream_is_closed() {
        let server = Etcd::start().await.unwrap();
        // Only the idle timeout should elapse.
        let options = EtcdOptions { ping_interval: 100 * IDLE_TIMEOUT, ..EtcdOptions::default() };
        let (registry, claim) = registered(&server, options).await;
        let client = registry.runtimes.connections().unwrap().client;
        let (streams, cluster) = (KeepAliveStreams::default(), client.cluster());
        streams.renew(cluster, claim.lease()).await.unwrap();
        let stream = streams.0.iter().find_map(Lane::last).unwrap();
        let almost_idle = IDLE_TIMEOUT.mul_f64(0.95);
        for _ in 0..3 {
            pass(almost_idle).await;
            assert!(!stream.is_closed(), "the stream was used within the idle timeout");
            streams.renew(cluster, claim.lease()).await.unwrap();
            assert!(Arc::ptr_eq(&stream, &streams.0.iter().find_map(Lane::last).unwrap()));
        }
        pass(IDLE_TIMEOUT).await;
        assert!(stream.is_closed());
        streams.renew(cluster, claim.lease()).await.unwrap();
        assert!(!Arc::ptr_eq(&stream, &streams.0.iter().find_map(Lane::last).unwrap()));
    }

    /// Counts how often a future is polled.
    async fn counted<F: Future>(future: F, polls: &Cell<usize>) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Regression: each renewal sent its own request in turn, and was polled again for every other one that was sent.
    #[tokio::test]
    async fn renewals_waiting_for_a_paused_server_are_polled_a_bounded_number_of_times() {
        const COUNT: usize = 2_000;
        let mut server = Etcd::start().await.unwrap();
        // Long enough that none times out on a busy machine.
        let options = EtcdOptions { request_timeout: IDLE_TIMEOUT, ..EtcdOptions::default() };
        let (registry, claim) = registered(&server, options).await;
        let client = registry.runtimes.connections().unwrap().client;
        let (streams, cluster) = (KeepAliveStreams::default(), client.cluster());
        streams.renew(cluster, claim.lease()).await.unwrap();
        server.process().unwrap().pause().unwrap();
        let polls = Cell::new(0);
        let renewal = || counted(streams.renew(cluster, claim.lease()), &polls);
        let mut renewals: FuturesUnordered<_> = (0..COUNT).map(|_| renewal()).collect();
        // Longer than the silence timeout of a connection.
        let still = timeout(3 * STALL_TIMEOUT, renewals.next()).await;
        assert!(still.is_err(), "the server is not paused: {still:?}");
        assert!(polls.get() <= COUNT + COUNT / 10, "{} polls", polls.get());
        server.process().unwrap().resume().unwrap();
        let answered = lag::timeout(Duration::from_secs(30), renewals.count()).await.unwrap();
        assert_eq!(answered, COUNT);
    }
}
