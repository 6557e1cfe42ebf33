//! An operator: reads and deletes keys of etcd by hand.

use crate::store::Store;
use anyhow::{Context, Result, ensure};
use etcd_client::{Client, CompactionOptions, ConnectOptions, DeleteOptions, GetOptions};
use registry_testbed::servers::Etcd;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The timeout of a request to a healthy etcd.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(2);

/// A connection without a proxy.
#[derive(Clone)]
pub(crate) struct Operator(Client);

/// A key with its value, its lease, and the granted ttl of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) lease: i64,
    pub(crate) granted_ttl: i64,
}

impl Entry {
    /// Returns whether the key is that of a server, in the format of go-zero or etcd's resolver.
    pub(crate) fn is_of(&self, address: &str) -> bool {
        self.value == address || self.value.contains(&format!("\"{address}\""))
    }
}

impl Operator {
    pub(crate) async fn connect(store: &Store) -> Result<Self> {
        let mut options = ConnectOptions::new();
        if store.has_auth {
            options = options.with_user("root", Etcd::PASSWORD);
        }
        let client = timeout(ANSWER_WITHIN, Client::connect(store.endpoints(), Some(options)));
        Ok(Self(client.await.context("etcd does not respond to the operator")??))
    }

    /// Returns all keys with a prefix, sorted.
    pub(crate) async fn entries(&mut self, prefix: &str) -> Result<Vec<Entry>> {
        let all = GetOptions::new().with_prefix();
        let answer = timeout(ANSWER_WITHIN, self.0.get(prefix, Some(all))).await??;
        let mut entries = Vec::new();
        for pair in answer.kvs() {
            let lease = pair.lease();
            let granted_ttl = if lease == 0 {
                0
            } else {
                timeout(ANSWER_WITHIN, self.0.lease_time_to_live(lease, None)).await??.granted_ttl()
            };
            let (key, value) = (pair.key_str()?.to_owned(), pair.value_str()?.to_owned());
            entries.push(Entry { key, value, lease, granted_ttl });
        }
        Ok(entries)
    }

    /// Counts the keys with a prefix, or returns 0 if etcd is unavailable.
    pub(crate) async fn count(&mut self, prefix: &str) -> i64 {
        let count = GetOptions::new().with_prefix().with_count_only();
        let answer = timeout(ANSWER_WITHIN, self.0.get(prefix, Some(count))).await;
        answer.map_or(0, |answer| answer.map_or(0, |answer| answer.count()))
    }

    /// Returns the key of the server with an address.
    pub(crate) async fn entry(&mut self, service: &str, address: &str) -> Result<Option<Entry>> {
        let entries = self.entries(&format!("{service}/")).await?;
        Ok(entries.into_iter().find(|entry| entry.is_of(address)))
    }

    /// Waits until the server with an address has a key.
    pub(crate) async fn await_entry(
        &mut self,
        service: &str,
        address: &str,
        within: Duration,
    ) -> Result<()> {
        let wait = async {
            // An unavailable etcd is polled again.
            while !matches!(self.entry(service, address).await, Ok(Some(_))) {
                sleep(PAUSE).await;
            }
        };
        timeout(within, wait)
            .await
            .with_context(|| format!("{address} has no key within {within:?}"))
    }

    /// Deletes a key, or all keys with this prefix.
    pub(crate) async fn delete(&mut self, key: &str, with_prefix: bool) -> Result<()> {
        let options = with_prefix.then(|| DeleteOptions::new().with_prefix());
        let answer = timeout(ANSWER_WITHIN, self.0.delete(key, options)).await??;
        ensure!(answer.deleted() > 0, "no effect: the key `{key}` does not exist");
        Ok(())
    }

    pub(crate) async fn revoke(&mut self, lease: i64) -> Result<()> {
        timeout(ANSWER_WITHIN, self.0.lease_revoke(lease)).await??;
        Ok(())
    }

    /// Compacts the history up to the current revision.
    pub(crate) async fn compact(&mut self) -> Result<()> {
        let answer = timeout(ANSWER_WITHIN, self.0.get("any", None)).await??;
        let revision = answer.header().context("a response without a header")?.revision();
        let options = CompactionOptions::new().with_physical();
        timeout(ANSWER_WITHIN, self.0.compact(revision, Some(options))).await??;
        Ok(())
    }

    /// Waits until a prefix has `count` keys.
    pub(crate) async fn await_count(
        &mut self,
        prefix: &str,
        count: i64,
        within: Duration,
    ) -> Result<()> {
        let wait = async {
            while self.count(prefix).await != count {
                sleep(PAUSE).await;
            }
        };
        let outcome = timeout(within, wait).await;
        outcome.with_context(|| {
            format!("the prefix {prefix} did not have {count} keys within {within:?}")
        })
    }
}
