//! Requests to etcd, each with a deadline.

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::error::{EtcdError, Reason};
use crate::keep_alive::KeepAliveStreams;
use crate::options::EtcdOptions;
use crate::transport::Dial;
use etcd_client::{
    GetOptions, GetResponse, LeaseGrantOptions, LeaseTimeToLiveOptions, LeaseTimeToLiveResponse,
    ResponseHeader, Txn, TxnResponse,
};
use registry_core::{Error, LeaseId, Lineage, Result, silence_timeout};
use std::sync::Arc;
use std::time::Duration;

/// The largest accepted response to a read of several keys, in bytes.
pub(crate) const MAX_PAGE_LEN: usize = 16 * 1024 * 1024;

/// The largest accepted response to any other request, in bytes. By default, etcd limits a value to 1.5 MiB.
pub(crate) const MAX_ANSWER_LEN: usize = 64 * 1024 * 1024;

/// A client of an etcd cluster.
#[derive(Clone)]
pub(crate) struct Client {
    cluster: Cluster,
    keep_alive_streams: KeepAliveStreams,
    audit_interval: Option<Duration>,
    silence_timeout: Duration,
}

impl Client {
    /// Returns a client that is not connected yet.
    pub(crate) fn new(endpoints: Arc<[Endpoint]>, dial: Dial, options: &EtcdOptions) -> Self {
        let cluster = Cluster::new(endpoints, dial, options);
        let (keep_alive_streams, audit_interval) =
            (KeepAliveStreams::default(), options.audit_interval);
        let silence_timeout = options.silence_timeout.unwrap_or_else(|| silence_timeout(None));
        Self { cluster, keep_alive_streams, audit_interval, silence_timeout }
    }

    /// Makes the cheapest read that later calls depend on: it requires an etcd, a quorum, and a user that
    /// etcd knows. If a member is unavailable, the next one is tried, up to `members` in all.
    pub(crate) async fn check(&self, key: &str, members: usize) -> Result<()> {
        self.cluster.check_files().await?;
        let read = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
        let mut tries = 1;
        loop {
            match self.range(key, read.clone()).await {
                Ok(_) => return Ok(()),
                // A user of one service may lack permission for all keys. The refusal still shows that etcd answers.
                Err(error) if error.is_permission_denied() => return Ok(()),
                Err(error) if error.is_member_failure() && tries < members => tries += 1,
                Err(error) => {
                    let asked = error.endpoint().filter(|_| self.cluster.endpoints().len() > 1);
                    let asked =
                        asked.map_or_else(String::new, |asked| format!(", asked=`{asked}`"));
                    let message =
                        format!("cannot connect to etcd, endpoints=`{:?}`{asked}", self.cluster);
                    return Err(Error::new(error.reason().kind(), message).with_source(error));
                }
            }
        }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns how long a watch may show no sign of life before it ends.
    pub(crate) fn silence_timeout(&self) -> Duration {
        self.silence_timeout
    }

    pub(crate) fn audit_interval(&self) -> Option<Duration> {
        self.audit_interval
    }

    /// Reads keys, linearizably unless `options` say otherwise.
    pub(crate) async fn range(
        &self,
        key: impl Into<Vec<u8>>,
        options: GetOptions,
    ) -> Result<GetResponse, EtcdError> {
        self.range_up_to(key, options, MAX_ANSWER_LEN).await
    }

    /// Reads keys, with a response of at most `max_len` bytes.
    pub(crate) async fn range_up_to(
        &self,
        key: impl Into<Vec<u8>>,
        options: GetOptions,
        max_len: usize,
    ) -> Result<GetResponse, EtcdError> {
        let key = key.into();
        let read = self.cluster.call(|connection| {
            let (key, options) = (key.clone(), options.clone());
            async move {
                let kv = connection.client().kv_client();
                Ok(kv.max_decoding_message_size(max_len).get(key, Some(options)).await?)
            }
        });
        read.await
    }

    /// Executes a transaction.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        let change = self.cluster.call(|connection| {
            let txn = txn.clone();
            async move {
                let kv = connection.client().kv_client();
                Ok(kv.max_decoding_message_size(MAX_ANSWER_LEN).txn(txn).await?)
            }
        });
        change.await
    }

    /// Grants a lease for at least `seconds`. Returns the granted ttl in seconds.
    pub(crate) async fn grant(&self, lease: LeaseId, seconds: i64) -> Result<i64, EtcdError> {
        let grant = self.cluster.call(|connection| async move {
            let id = LeaseGrantOptions::new().with_id(lease.get());
            Ok(connection.client().lease_client().grant(seconds, Some(id)).await?.ttl())
        });
        grant.await
    }

    /// Renews a lease for its whole ttl. Returns the granted ttl in seconds, if etcd states it.
    pub(crate) async fn renew(&self, lease: LeaseId) -> Result<Option<i64>, EtcdError> {
        self.keep_alive_streams.renew(&self.cluster, lease).await
    }

    /// Revokes a lease, which deletes its keys.
    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), EtcdError> {
        let revoke = self.cluster.call(|connection| async move {
            connection.client().lease_client().revoke(lease.get()).await?;
            Ok(())
        });
        revoke.await
    }

    /// Returns the granted ttl and the attached keys of a lease, or `None` if it does not exist.
    pub(crate) async fn lease_info(
        &self,
        lease: LeaseId,
    ) -> Result<Option<LeaseTimeToLiveResponse>, EtcdError> {
        let lease_info = self.cluster.call(|connection| async move {
            let keys = LeaseTimeToLiveOptions::new().with_keys();
            Ok(connection.client().lease_client().time_to_live(lease.get(), Some(keys)).await?)
        });
        match lease_info.await {
            // A granted ttl is never 0. The remaining ttl is no criterion: it is -1 both for a lease that
            // does not exist and for an expired one that is not revoked yet.
            Ok(answer) => Ok(Some(answer).filter(|answer| answer.granted_ttl() > 0)),
            Err(error) if error.reason() == Reason::LeaseNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The cluster, raft term and revision of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) cluster: u64,
    /// The raft term, which each election increments.
    term: u64,
    /// The revision of the store at the time of the response.
    pub(crate) revision: u64,
}

impl Answered {
    pub(crate) fn by(header: Option<&ResponseHeader>) -> Result<Self, EtcdError> {
        let header = header.ok_or(EtcdError::Malformed("its header"))?;
        let (cluster, term) = (header.cluster_id(), header.raft_term());
        Ok(Self { cluster, term, revision: header.revision().cast_unsigned() })
    }

    /// Returns the lineage. Equal lineages mean the same cluster without an election in between.
    pub(crate) fn lineage(self) -> Lineage {
        Lineage::new(format_args!("{:x}.{}", self.cluster, self.term))
    }
}
