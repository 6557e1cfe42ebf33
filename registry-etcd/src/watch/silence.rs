//! Detects a silent source whose connection is still open.
//!
//! An idle watch and a watch on a paused member look the same. So while a stream is open, two liveness probes
//! are sent: a linearizable read, which needs a leader and a quorum, and a request on the stream itself.
//! Either may fail alone.

use super::stream::Stream;
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use etcd_client::GetOptions;
use futures_util::future::try_join;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The receive rate at which a late probe is assumed to queue behind other data. A lower rate may be due to
/// other uses of the connection.
const BUSY_BYTES_PER_SECOND: u128 = 16 * 1024;

impl Stream {
    /// Returns once a probe fails, at the latest `limit` after the last one that succeeded. On a link that is
    /// busy receiving, it waits longer.
    pub(super) async fn detect_silence(self: &Arc<Self>, limit: Duration) -> EtcdError {
        let (interval, wait) = (limit / 3, limit / 2);
        loop {
            sleep(interval.mul_f64(0.8 + 0.2 * fastrand::f64())).await;
            let Some(service) = self.any_service() else { continue };
            let mut probes = pin!(try_join(self.probe_read(&service), self.probe_stream(&service)));
            loop {
                let (deadline, before) =
                    (Instant::now() + wait, self.connection().received_bytes());
                match timeout_at(deadline, &mut probes).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(error)) => return error,
                    // This process was paused as well, so received data is processed first.
                    Err(_) if Instant::now() > deadline + interval => {}
                    Err(_) => {
                        let received = self.connection().received_bytes() - before;
                        if u128::from(received) * 1000 < BUSY_BYTES_PER_SECOND * wait.as_millis() {
                            return EtcdError::Silent(limit);
                        }
                    }
                }
            }
        }
    }

    /// Reads a key of the service on the stream's connection. A refusal also counts as a sign of life.
    async fn probe_read(&self, service: &ServiceLayout) -> Result<(), EtcdError> {
        let mut kv = self.connection().client().kv_client();
        let options = GetOptions::new().with_keys_only();
        match Box::pin(kv.get(service.start(), Some(options))).await.map_err(EtcdError::from) {
            Err(error) if error.is_member_failure() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Creates a watcher without events on the stream.
    ///
    /// A progress request would also do, but crashes the gRPC proxy of etcd 3.4.
    async fn probe_stream(self: &Arc<Self>, service: &ServiceLayout) -> Result<(), EtcdError> {
        let Some(pending) = self.create_mute_watcher(service) else { return Ok(()) };
        pending.created.await.map(drop).map_err(|_| EtcdError::StreamEnded)
    }
}
