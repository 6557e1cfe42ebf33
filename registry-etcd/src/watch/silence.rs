//! Notices a source that is silent though its connection stands.
//!
//! A watch with nothing to say and a watch whose member stands still look the same. So while a stream is open, its member
//! is asked for two signs of life: a linearizable read, which needs a leader and a quorum, and an answer on the
//! stream itself, since each may be missing alone.

use super::stream::Stream;
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use etcd_client::GetOptions;
use futures_util::future::try_join;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How many bytes have to arrive in a second, so that a sign of life that is late is taken to queue behind them: fewer
/// may be those of others on the connection.
const BUSY_BYTES_PER_SECOND: u128 = 16 * 1024;

impl Stream {
    /// Returns once a sign of life is missing, within `limit` after the last one. On a link that is busy with what it
    /// carries, a sign may take longer.
    pub(super) async fn notice_silence(self: &Arc<Self>, limit: Duration) -> EtcdError {
        let (interval, wait) = (limit / 3, limit / 2);
        loop {
            sleep(interval.mul_f64(0.8 + 0.2 * fastrand::f64())).await;
            let Some(service) = self.any_service() else { continue };
            let mut signs = pin!(try_join(self.read_sign(&service), self.stream_sign(&service)));
            loop {
                let (deadline, before) =
                    (Instant::now() + wait, self.connection().received_bytes());
                match timeout_at(deadline, &mut signs).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(error)) => return error,
                    // This process stood still as well: what arrived meanwhile is read first.
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

    /// Reads a key of the service over the connection of the stream. A refusal is a sign of life, too.
    async fn read_sign(&self, service: &ServiceLayout) -> Result<(), EtcdError> {
        let mut kv = self.connection().client().kv_client();
        let options = GetOptions::new().with_keys_only();
        match Box::pin(kv.get(service.start(), Some(options))).await.map_err(EtcdError::from) {
            Err(error) if error.is_member_failure() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Asks for a watcher that never has anything to say, on the stream.
    ///
    /// A request for progress would do as well, but crashes the gRPC proxy of etcd 3.4.
    async fn stream_sign(self: &Arc<Self>, service: &ServiceLayout) -> Result<(), EtcdError> {
        let Some(pending) = self.create_mute_watcher(service) else { return Ok(()) };
        pending.created.await.map(drop).map_err(|_| EtcdError::StreamEnded)
    }
}
