//! An operator who looks at the keys, and deletes some.

use crate::store::Store;
use anyhow::{Context, Result, ensure};
use etcd_client::{Client, CompactionOptions, ConnectOptions, DeleteOptions, GetOptions};
use registry_testbed::servers::Etcd;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an etcd that is well may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether something has happened.
const PAUSE: Duration = Duration::from_millis(2);

/// A connection past the proxies.
#[derive(Clone)]
pub(crate) struct Operator(Client);

/// A key with its value, its lease, and the ttl that was granted to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) lease: i64,
    pub(crate) granted_ttl: i64,
}

impl Entry {
    /// Returns whether it is that of a server: go-zero's, or that of etcd's resolver.
    pub(crate) fn is_of(&self, address: &str) -> bool {
        self.value == address || self.value.contains(&format!("\"{address}\""))
    }
}

impl Operator {
    pub(crate) async fn of(store: &Store) -> Result<Self> {
        let mut options = ConnectOptions::new();
        if store.has_auth {
            options = options.with_user("root", Etcd::PASSWORD);
        }
        let client = timeout(ANSWER_WITHIN, Client::connect(store.endpoints(), Some(options)));
        Ok(Self(client.await.context("etcd does not answer the operator")??))
    }

    /// Returns all keys that begin with `prefix`, in order.
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

    /// Returns how many keys begin with `prefix`. An etcd that is away has none.
    pub(crate) async fn count(&mut self, prefix: &str) -> i64 {
        let count = GetOptions::new().with_prefix().with_count_only();
        let answer = timeout(ANSWER_WITHIN, self.0.get(prefix, Some(count))).await;
        answer.map_or(0, |answer| answer.map_or(0, |answer| answer.count()))
    }

    /// Returns the key of the server of an address.
    pub(crate) async fn entry(&mut self, service: &str, address: &str) -> Result<Option<Entry>> {
        let entries = self.entries(&format!("{service}/")).await?;
        Ok(entries.into_iter().find(|entry| entry.is_of(address)))
    }

    /// Waits until the server of an address has a key.
    pub(crate) async fn await_entry(
        &mut self,
        service: &str,
        address: &str,
        within: Duration,
    ) -> Result<()> {
        let wait = async {
            // An etcd that is away is asked again.
            while !matches!(self.entry(service, address).await, Ok(Some(_))) {
                sleep(PAUSE).await;
            }
        };
        timeout(within, wait).await.with_context(|| format!("{address} has no key"))
    }

    /// Deletes a key, or all that begin with it.
    pub(crate) async fn delete(&mut self, key: &str, with_prefix: bool) -> Result<()> {
        let options = with_prefix.then(|| DeleteOptions::new().with_prefix());
        let answer = timeout(ANSWER_WITHIN, self.0.delete(key, options)).await??;
        ensure!(answer.deleted() > 0, "no effect: nothing was deleted, key=`{key}`");
        Ok(())
    }

    pub(crate) async fn revoke(&mut self, lease: i64) -> Result<()> {
        timeout(ANSWER_WITHIN, self.0.lease_revoke(lease)).await??;
        Ok(())
    }

    /// Compacts the history up to now.
    pub(crate) async fn compact(&mut self) -> Result<()> {
        let answer = timeout(ANSWER_WITHIN, self.0.get("any", None)).await??;
        let revision = answer.header().context("an answer without a header")?.revision();
        let options = CompactionOptions::new().with_physical();
        timeout(ANSWER_WITHIN, self.0.compact(revision, Some(options))).await??;
        Ok(())
    }

    /// Waits until `count` keys begin with `prefix`.
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
        outcome.with_context(|| format!("not {count} keys under {prefix} within {within:?}"))
    }
}
