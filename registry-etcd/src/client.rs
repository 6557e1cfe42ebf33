//! The connection to one etcd: each request once, and under a deadline.

use crate::EtcdOptions;
use crate::error::{EtcdError, Reason};
use etcd_client::{
    ConnectOptions, GetOptions, GetResponse, LeaseGrantOptions, LeaseTimeToLiveOptions,
    LeaseTimeToLiveResponse, ResponseHeader, Txn, TxnResponse, WatchOptions, WatchResponse,
    WatchStream,
};
use registry_core::{Error, LeaseId, Result};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The largest answer that is taken, in bytes; etcd-client's default is 4 MiB.
///
/// A page holds up to 1,000 records of up to 64 KiB, and so does a watch response (etcd's
/// `watchBatchMaxRevs`, in `mvcc/watcher_group.go`). Keys add up to 1.5 KiB each, and what others
/// put there may be larger than a record: so twice the records' 63 MiB.
const MAX_ANSWER_LEN: usize = 128 * 1024 * 1024;

/// One etcd, as this crate talks to it.
#[derive(Clone)]
pub(crate) struct Client {
    etcd: Arc<etcd_client::Client>,
    endpoint: Arc<str>,
    deadline: Duration,
}

impl Client {
    /// Connects to `endpoint`, `host:port`, and makes the cheapest read that needs what later calls
    /// need: an etcd, a quorum, and leave to read under `prefix`.
    pub(crate) async fn connect(
        endpoint: &str,
        options: EtcdOptions,
        prefix: &str,
    ) -> Result<Self> {
        let connect_options = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(options.ping_interval, options.ping_timeout)
            // etcd takes pings without a stream for abuse, and closes the connection.
            .with_keep_alive_while_idle(false)
            // A member that lost its quorum refuses calls at once, and ends watches that it could
            // not serve.
            .with_require_leader(true);
        let failed = |error: EtcdError| {
            let message = format!("cannot connect to etcd, endpoint=`{endpoint}`");
            Error::new(error.reason().kind(), message).with_source(error)
        };
        let url = [format!("http://{endpoint}")];
        // Boxed, since a client and the future that makes it take several KiB.
        let etcd = Box::pin(etcd_client::Client::connect(url, Some(connect_options))).await;
        let etcd = Arc::new(etcd.map_err(|error| failed(error.into()))?);
        let client = Self { etcd, endpoint: endpoint.into(), deadline: options.request_timeout };
        let read = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
        client.range(prefix, read).await.map_err(failed)?;
        Ok(client)
    }

    /// Where it is: `host:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A read, linearizable unless `options` say otherwise.
    pub(crate) async fn range(
        &self,
        key: impl Into<Vec<u8>>,
        options: GetOptions,
    ) -> Result<GetResponse, EtcdError> {
        let mut kv = self.etcd.kv_client().max_decoding_message_size(MAX_ANSWER_LEN);
        self.within(kv.get(key, Some(options))).await
    }

    /// A transaction.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        self.within(self.etcd.kv_client().txn(txn)).await
    }

    /// Grants a lease for at least `seconds`; gives the seconds granted.
    pub(crate) async fn grant(&self, lease: LeaseId, seconds: i64) -> Result<i64, EtcdError> {
        let id = LeaseGrantOptions::new().with_id(lease.get());
        let granted = self.within(self.etcd.lease_client().grant(seconds, Some(id))).await?;
        Ok(granted.ttl())
    }

    /// Renews a lease for its whole ttl.
    pub(crate) async fn renew(&self, lease: LeaseId) -> Result<(), EtcdError> {
        // It sends one request on a stream of its own and waits for the answer; to drop the stream
        // is to close it.
        self.within(self.etcd.lease_client().keep_alive(lease.get())).await.map(drop)
    }

    /// Revokes a lease, whose keys go with it.
    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), EtcdError> {
        self.within(self.etcd.lease_client().revoke(lease.get())).await.map(drop)
    }

    /// What a lease was granted for and which keys hang on it, if there is such a lease.
    pub(crate) async fn describe(
        &self,
        lease: LeaseId,
    ) -> Result<Option<LeaseTimeToLiveResponse>, EtcdError> {
        let keys = LeaseTimeToLiveOptions::new().with_keys();
        let mut leases = self.etcd.lease_client();
        match self.within(leases.time_to_live(lease.get(), Some(keys))).await {
            // No lease was granted for nothing. What remains of its ttl would not tell: it is -1
            // for a lease that does not exist, and for one that is late to be revoked.
            Ok(answer) => Ok(Some(answer).filter(|answer| answer.granted_ttl() > 0)),
            Err(error) if error.reason() == Reason::LeaseNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a watch of the keys from `start` up to `end`, from `revision` on, on a stream of its
    /// own, and waits for the first answer.
    pub(crate) async fn watch(
        &self,
        start: &str,
        end: &str,
        revision: i64,
    ) -> Result<(WatchStream, WatchResponse), EtcdError> {
        let options = WatchOptions::new()
            .with_range(end)
            .with_start_revision(revision)
            .with_progress_notify();
        let mut watches = self.etcd.watch_client().max_decoding_message_size(MAX_ANSWER_LEN);
        let opening = async {
            let mut stream = watches.watch(start, Some(options)).await?;
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = self.within(opening).await?;
        Ok((stream, first.ok_or(EtcdError::Ended)?))
    }

    /// Waits for an answer no longer than the deadline.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        match timeout(self.deadline, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(EtcdError::Deadline(self.deadline)),
        }
    }
}

/// The cluster that answered, and the revision of its store by then.
pub(crate) fn cluster_and_revision(
    header: Option<&ResponseHeader>,
) -> Result<(u64, u64), EtcdError> {
    let header = header.ok_or(EtcdError::Malformed("its header"))?;
    Ok((header.cluster_id(), header.revision().cast_unsigned()))
}
