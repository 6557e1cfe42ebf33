//! The arms of the experiments: what people build on plain Redis, and the registry.
//!
//! Each has a writer and an observer. All observers log the events they see of the same workload under the same faults.

pub(crate) mod connection;
mod etcd;
pub(crate) mod keyspace;
mod pubsub;
mod registry;

use self::connection::RedisTarget;
use crate::stores::{StoreOptions, describe_etcd, describe_redis};
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use registry_mem::{Fault as MemFault, FaultyRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use registry_testbed::servers::{Etcd, EtcdCluster, Redis, RedisSentinel};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long an observer waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(10);

/// A way to follow a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum ObserverArm {
    /// `HSET` and `PUBLISH`, and a subscriber that reconnects.
    Publish,
    /// The same, with a full read after each connect.
    PublishAndReread,
    /// Keys with a ttl and keyspace notifications, with a full read after each connect.
    Keyspace,
    /// A key under a lease, and etcd's watch.
    PlainEtcd,
    /// The registry on Redis.
    OursOnRedis,
    /// The registry on etcd.
    OursOnEtcd,
    /// The registry in memory.
    OursInMemory,
}

/// The new value of one instance, which is used once, or its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Change {
    /// The id of the instance.
    pub id: u8,
    /// The value; `None` for a deletion.
    pub value: Option<u32>,
}

/// The value of each instance.
pub type Values = BTreeMap<u8, u32>;

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Event {
    /// All values, read at the start.
    Initial(Values),
    /// A single change.
    Change(Change),
    /// All values, read because the observer cannot detect missed changes.
    Reread(Values),
    /// All values, read because the store reported that changes are compacted.
    Resynced(Values),
}

/// The events that an observer saw, with the time of each. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct EventLog(Rc<RefCell<Vec<(Instant, Event)>>>);

/// How an arm is opened.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct ArmOptions<'a> {
    /// The name of the service: unique on the servers.
    pub name: &'a str,
    /// How many bytes each instance carries beside its value.
    pub payload_len: usize,
    /// The ttl of an instance, where the arm has ttls.
    pub ttl: Duration,
    /// Whether the observer connects through a proxy, to inject faults. The proxy adds latency.
    pub via_proxy: bool,
}

/// Changes the store.
#[async_trait(?Send)]
pub trait Writer {
    /// Writes a change, and returns when it is acknowledged.
    async fn write(&mut self, change: Change) -> Result<()>;

    /// Registers so many instances of other services, which outlive the run.
    async fn register_others(&mut self, _others: usize) -> Result<()> {
        bail!("this arm has no ttls")
    }

    /// Compacts the history of the store. Returns whether the store has one.
    async fn compact(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// An opened arm: a writer, and an observer with its log.
#[allow(missing_debug_implementations, clippy::exhaustive_structs)]
pub struct OpenArm {
    /// The writer, on a link without faults.
    pub writer: Box<dyn Writer>,
    /// Follows the store forever, across all failures.
    pub observer: LocalBoxFuture<'static, ()>,
    /// The events it has seen.
    pub log: EventLog,
    /// The link of the observer.
    pub link: Link,
}

/// The link of an observer to its store, on which faults are injected.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Link {
    /// Through a proxy.
    Proxy(Proxy),
    /// A connection within this process.
    Memory(FaultyRegistry),
    /// Directly to the servers. No fault is injected on the link; a server fails instead.
    Direct,
}

/// Replicated servers.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct ReplicatedServers {
    /// Of three members.
    pub etcd: EtcdCluster,
    /// Under Sentinel.
    pub redis: RedisSentinel,
}

/// The servers.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Servers {
    /// The etcd, if it takes part.
    pub etcd: Option<Etcd>,
    /// The Redis, which always takes part.
    pub redis: Redis,
}

impl ObserverArm {
    /// The arms whose link is cut and paused. Plain etcd is not among them: a compaction of it hits all arms on it.
    pub const UNDER_FAULTS: [Self; 6] = [
        Self::Publish,
        Self::PublishAndReread,
        Self::Keyspace,
        Self::OursOnRedis,
        Self::OursOnEtcd,
        Self::OursInMemory,
    ];

    /// Returns the label in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "Redis: HSET + PUBLISH",
            Self::PublishAndReread => "Redis: the same, re-read on reconnect",
            Self::Keyspace => "Redis: keys with a ttl + notifications",
            Self::PlainEtcd => "etcd: put + watch",
            Self::OursOnRedis => "registry on Redis",
            Self::OursOnEtcd => "registry on etcd",
            Self::OursInMemory => "registry in memory",
        }
    }

    /// Returns whether the arm is plain Redis, without the registry.
    pub fn is_plain_redis(self) -> bool {
        matches!(self, Self::Publish | Self::PublishAndReread | Self::Keyspace)
    }

    /// Opens the arm, on a service of its own.
    ///
    /// # Errors
    ///
    /// If a server fails, or the arm is on etcd, which does not take part.
    pub async fn open(self, servers: &Servers, options: ArmOptions<'_>) -> Result<OpenArm> {
        let redis = &servers.redis;
        let etcd = || servers.etcd.as_ref().context("etcd does not take part");
        match self {
            Self::Publish => {
                Ok(pubsub::open(RedisTargets::single(redis, options).await?, options, false))
            }
            Self::PublishAndReread => {
                Ok(pubsub::open(RedisTargets::single(redis, options).await?, options, true))
            }
            Self::Keyspace => {
                keyspace::open(RedisTargets::single(redis, options).await?, options).await
            }
            Self::PlainEtcd => etcd::open(etcd()?, options).await,
            Self::OursOnRedis => registry::on_redis(redis, options).await,
            Self::OursOnEtcd => registry::on_etcd(etcd()?, options).await,
            Self::OursInMemory => registry::in_memory(options),
        }
    }

    /// Opens the arm on replicated servers.
    ///
    /// # Errors
    ///
    /// If a server fails, or the arm has no replicated servers.
    pub async fn open_replicated(
        self,
        servers: &ReplicatedServers,
        options: ArmOptions<'_>,
    ) -> Result<OpenArm> {
        match self {
            Self::Keyspace => {
                keyspace::open(RedisTargets::sentinel(&servers.redis)?, options).await
            }
            Self::Publish => {
                Ok(pubsub::open(RedisTargets::sentinel(&servers.redis)?, options, false))
            }
            Self::PublishAndReread => {
                Ok(pubsub::open(RedisTargets::sentinel(&servers.redis)?, options, true))
            }
            Self::OursOnRedis => registry::on_sentinel(&servers.redis, options).await,
            Self::OursOnEtcd => registry::on_cluster(&servers.etcd, options).await,
            Self::PlainEtcd | Self::OursInMemory => {
                bail!("{} has no replicated servers", self.name())
            }
        }
    }
}

impl Servers {
    /// Starts them, or connects to those that the environment names.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub async fn start(at: StoreOptions) -> Result<Self> {
        Ok(Self {
            etcd: Some(Etcd::start_with(at.etcd).await?),
            redis: Redis::start_with(at.redis).await?,
        })
    }

    /// Describes the servers: their versions, and how they persist a write.
    ///
    /// # Errors
    ///
    /// If one does not answer.
    pub async fn describe(&mut self) -> Result<Vec<String>> {
        let mut descriptions = vec![describe_redis(&mut self.redis).await?];
        if let Some(etcd) = &mut self.etcd {
            descriptions.push(describe_etcd(etcd).await?);
        }
        Ok(descriptions)
    }
}

impl Change {
    /// Returns the `n`th change of a round robin over so many instances. Its value is `n`.
    pub fn round_robin(n: u32, ids: u8) -> Self {
        let [id, ..] = (n % u32::from(ids)).to_le_bytes(); // less than `ids`
        Self { id, value: Some(n) }
    }
}

impl EventLog {
    /// Records a full read: as the initial one, or else as `reread`.
    fn record_all(&self, values: Values, reread: fn(Values) -> Event) {
        let event = if self.is_empty() { Event::Initial(values) } else { reread(values) };
        self.record(event);
    }

    fn record(&self, event: Event) {
        self.0.borrow_mut().push((Instant::now(), event));
    }

    /// Returns all events.
    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().iter().map(|(_, event)| event.clone()).collect()
    }

    /// Returns the single changes, with the time of each.
    pub fn changes(&self) -> Vec<(Instant, Change)> {
        let change = |(at, event): &(Instant, Event)| match event {
            Event::Change(change) => Some((*at, *change)),
            _ => None,
        };
        self.0.borrow().iter().filter_map(change).collect()
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Returns whether the log is empty.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl Link {
    /// Cuts the link: connections are reset, and new ones are refused until it is healed.
    pub fn cut(&self) {
        match self {
            Self::Proxy(proxy) => {
                proxy.inject(Fault::Refuse);
                proxy.reset();
            }
            Self::Memory(registry) => registry.inject(MemFault::Outage),
            Self::Direct => {}
        }
    }

    /// Pauses the link: connections stay open, and nothing passes until it is healed.
    pub fn pause(&self) {
        match self {
            Self::Proxy(proxy) => proxy.inject(Fault::Blackhole),
            Self::Memory(registry) => registry.inject(MemFault::Silence),
            Self::Direct => {}
        }
    }

    /// Ends the fault.
    pub fn heal(&self) {
        match self {
            Self::Proxy(proxy) => proxy.heal(),
            Self::Memory(registry) => registry.heal(),
            Self::Direct => {}
        }
    }

    /// Returns how many connections, or calls and watches, the faults have hit so far.
    pub fn hits(&self) -> u64 {
        match self {
            Self::Proxy(proxy) => {
                let hits = proxy.hits();
                hits.reset + hits.held_directions
            }
            Self::Memory(registry) => {
                let hits = registry.hits();
                hits.watches_ended + hits.calls_cut + hits.calls_refused + hits.watches_silenced
            }
            Self::Direct => 0,
        }
    }
}

/// Where the writer and the observer of a plain Redis find it.
struct RedisTargets {
    writer: RedisTarget,
    observer: RedisTarget,
    link: Link,
}

impl RedisTargets {
    async fn single(redis: &Redis, options: ArmOptions<'_>) -> Result<Self> {
        let (address, link) = link_to(redis.address(), options).await?;
        let observer = RedisTarget::parse(&format!("redis://{address}"))?;
        Ok(Self { writer: RedisTarget::parse(redis.url())?, observer, link })
    }

    fn sentinel(servers: &RedisSentinel) -> Result<Self> {
        let connection = RedisTarget::parse(&servers.url())?;
        Ok(Self { writer: connection.clone(), observer: connection, link: Link::Direct })
    }
}

/// Returns the address that an observer connects to, and its link to the server.
async fn link_to(address: &str, options: ArmOptions<'_>) -> Result<(String, Link)> {
    if !options.via_proxy {
        return Ok((address.to_owned(), Link::Direct));
    }
    let proxy = Proxy::start(address.parse()?).await?;
    Ok((proxy.address().to_string(), Link::Proxy(proxy)))
}

/// Follows again after each end. Errors are dropped: a plain observer reconnects and goes on.
async fn retry_forever(once: impl AsyncFn() -> Result<()>) {
    loop {
        drop(once().await);
        sleep(RECONNECT_DELAY).await;
    }
}

/// Parses the value of an instance from its text in a plain store, which ends with the payload.
fn parse_value(text: &str) -> Option<u32> {
    text.split(' ').next()?.parse().ok()
}
