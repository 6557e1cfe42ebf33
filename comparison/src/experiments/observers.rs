//! The arms of the experiments: the usual designs on plain Redis, etcd's own watch, and the registry.

use crate::arms::{Keyspace, Ours, Publish, RawEtcd};
use crate::harness::observe::client;
use crate::harness::stores::connect;
use crate::harness::{Client, EtcdServer, RedisLink, RedisServer, StoreOptions};
use anyhow::{Context, Result};
use registry_testbed::proxy::Proxy;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// The payload of each written instance in bytes, beside its value.
    pub payload_len: usize,
    /// The response timeout of a plain Redis client.
    pub patience: Duration,
}

/// The options of a writer. Some experiments keep the server busy.
pub const WRITER: ClientOptions =
    ClientOptions { payload_len: 0, patience: Duration::from_secs(10) };
/// The options of an observer or caller: the client's default timeout.
pub const OBSERVER: ClientOptions =
    ClientOptions { payload_len: 0, patience: Duration::from_millis(500) };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObserverArm {
    /// `HSET` and `PUBLISH`, and a subscriber that reconnects.
    Publish,
    /// The same, with a full read after each connect.
    PublishAndReread,
    /// Keys with a ttl and keyspace notifications, with a full read after each connect.
    Keyspace,
    /// A key under a lease, and etcd's watch.
    PlainEtcd,
    OursOnRedis,
    OursOnEtcd,
}

pub struct Servers {
    pub etcd: Option<EtcdServer>,
    redis: RedisServer,
    /// A separate server for keyspace notifications, because that setting slows down all clients.
    notifying: RedisServer,
}

impl ObserverArm {
    pub const ALL: [Self; 6] = [
        Self::Publish,
        Self::PublishAndReread,
        Self::Keyspace,
        Self::PlainEtcd,
        Self::OursOnRedis,
        Self::OursOnEtcd,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "Redis: HSET + PUBLISH",
            Self::PublishAndReread => "Redis: the same, re-read on reconnect",
            Self::Keyspace => "Redis: keys with a ttl + notifications",
            Self::PlainEtcd => "etcd: put + watch",
            Self::OursOnRedis => "service-registry on Redis",
            Self::OursOnEtcd => "service-registry on etcd",
        }
    }

    pub fn is_plain_redis(self) -> bool {
        !self.is_on_etcd() && self != Self::OursOnRedis
    }

    pub fn is_on_etcd(self) -> bool {
        matches!(self, Self::PlainEtcd | Self::OursOnEtcd)
    }

    pub async fn client(
        self,
        url: &str,
        service: &str,
        options: ClientOptions,
    ) -> Result<Box<dyn Client>> {
        let (len, redis) = (options.payload_len, || RedisLink::new(url, options.patience));
        match self {
            Self::Publish => client(Publish::<false>(redis()?), service, len),
            Self::PublishAndReread => client(Publish::<true>(redis()?), service, len),
            Self::Keyspace => client(Keyspace(redis()?), service, len),
            Self::PlainEtcd => {
                let url = url.replace("etcd://", "http://");
                client(RawEtcd::connect(&url).await?, service, len)
            }
            Self::OursOnRedis | Self::OursOnEtcd => {
                client(Ours::new(connect(url).await?), service, len)
            }
        }
    }

    /// Opens a writer at one URL and an observer at another.
    pub async fn pair(
        self,
        [direct, via]: [&str; 2],
        service: &str,
        payload_len: usize,
    ) -> Result<[Box<dyn Client>; 2]> {
        let writer = self.client(direct, service, ClientOptions { payload_len, ..WRITER }).await?;
        Ok([writer, self.client(via, service, OBSERVER).await?])
    }

    /// Opens a writer, and an observer behind a proxy that injects faults.
    pub async fn pair_via_proxy(
        self,
        servers: &Servers,
        service: &str,
        payload_len: usize,
    ) -> Result<([Box<dyn Client>; 2], Proxy)> {
        let url = servers.url(self)?;
        let (scheme, address) = url.split_once("://").context("the URL has no scheme")?;
        let address = address.split('?').next().unwrap_or_default();
        let proxy = Proxy::start(address.parse()?).await?;
        let via = format!("{scheme}://{}", proxy.address());
        Ok((self.pair([url, &via], service, payload_len).await?, proxy))
    }
}

impl Servers {
    pub async fn start(at: StoreOptions) -> Result<Self> {
        Ok(Self {
            etcd: Some(EtcdServer::start_with(at.etcd).await?),
            redis: RedisServer::start_with(at.redis.clone()).await?,
            notifying: RedisServer::start_with(at.redis).await?,
        })
    }

    /// Describes the servers. Redis comes first.
    pub fn descriptions(&self) -> Vec<String> {
        let etcd = self.etcd.as_ref().map(|etcd| &etcd.description);
        [&self.redis.description].into_iter().chain(etcd).cloned().collect()
    }

    pub fn url(&self, arm: ObserverArm) -> Result<&str> {
        let etcd = || self.etcd.as_ref().context("etcd does not take part");
        Ok(match arm {
            _ if arm.is_on_etcd() => etcd()?.etcd.url(),
            ObserverArm::Keyspace => self.notifying.redis.url(),
            _ => self.redis.redis.url(),
        })
    }
}
