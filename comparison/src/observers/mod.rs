//! The ways to follow a store that are put to the test: what people build on plain Redis, and the registry.
//!
//! All follow the same workload on a way that is disturbed, and write down what they get to know.

mod etcd;
pub(crate) mod keyspace;
mod pubsub;
pub(crate) mod reach;
mod registry;

use self::reach::Reach;

use crate::stores::{Where, describe_etcd, describe_redis};
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

/// How long an observer waits before it connects again.
const BREATH: Duration = Duration::from_millis(10);

/// Who follows, and by which means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum Means {
    /// `HSET` and `PUBLISH`, and a subscriber that connects again.
    Publish,
    /// The same, and all is read anew after each connect.
    PublishAndReread,
    /// Keys with a ttl and keyspace notifications; all is read anew after each connect.
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

/// What one instance is from now on: a value that is used once, or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Change {
    /// Which instance.
    pub id: u8,
    /// What it holds; nothing if it is gone.
    pub value: Option<u32>,
}

/// What each instance holds.
pub type Picture = BTreeMap<u8, u32>;

/// What an observer gets to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Seen {
    /// All there is, where it begins.
    Began(Picture),
    /// A change, by itself.
    Change(Change),
    /// All there is, which it read because it cannot know whether it missed anything.
    Reread(Picture),
    /// All there is, which it read because the store said that changes are gone.
    Resynced(Picture),
}

/// What an observer got to know, and when, as it goes on.
#[derive(Clone, Debug, Default)]
pub struct Diary(Rc<RefCell<Vec<(Instant, Seen)>>>);

/// Where a stage is opened, and what is written there.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Place<'a> {
    /// A name that nothing else on the servers has.
    pub name: &'a str,
    /// How many bytes each instance carries besides what it holds.
    pub load: usize,
    /// How long an instance stays that is not written again, where the means have such a thing.
    pub ttl: Duration,
    /// Whether the way of the observer leads through a proxy, to be disturbed. It takes some time, too.
    pub is_disturbed: bool,
}

/// Changes the store.
#[async_trait(?Send)]
pub trait Writer {
    /// Makes a change, and returns when it is acknowledged.
    async fn write(&mut self, change: Change) -> Result<()>;

    /// Registers so many others, elsewhere, that stay.
    async fn crowd(&mut self, _others: usize) -> Result<()> {
        bail!("nothing in it has a ttl")
    }

    /// Has the store forget the history of its changes. Whether it has any.
    async fn forget(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// One way to follow, opened.
#[allow(missing_debug_implementations, clippy::exhaustive_structs)]
pub struct Stage {
    /// Who writes, on a way that nobody disturbs.
    pub writer: Box<dyn Writer>,
    /// Follows for ever, over all failures.
    pub observer: LocalBoxFuture<'static, ()>,
    /// What it has seen.
    pub diary: Diary,
    /// The way of the observer.
    pub way: Way,
}

/// The way of an observer to its store, to disturb.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Way {
    /// Through a proxy.
    Proxy(Proxy),
    /// A connection within this process.
    Memory(FaultyRegistry),
    /// Straight to the servers, of which one fails instead: there is nothing to disturb.
    Straight,
}

/// Servers that stand in for each other.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Fleet {
    /// Of three members.
    pub etcd: EtcdCluster,
    /// Under Sentinel.
    pub redis: RedisSentinel,
}

/// The servers.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Servers {
    /// If it takes part.
    pub etcd: Option<Etcd>,
    /// Always there.
    pub redis: Redis,
}

impl Means {
    /// Those whose way is cut and stalled. etcd as it is forgets for all who use it.
    pub const DISTURBED: [Self; 6] = [
        Self::Publish,
        Self::PublishAndReread,
        Self::Keyspace,
        Self::OursOnRedis,
        Self::OursOnEtcd,
        Self::OursInMemory,
    ];

    /// As a reader is told.
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

    /// Whether it is what Redis gives by itself.
    pub fn is_plain_redis(self) -> bool {
        matches!(self, Self::Publish | Self::PublishAndReread | Self::Keyspace)
    }

    /// Opens it, on a place of its own.
    ///
    /// # Errors
    ///
    /// If a server fails, or etcd is meant and does not take part.
    pub async fn open(self, servers: &Servers, place: Place<'_>) -> Result<Stage> {
        let redis = &servers.redis;
        let etcd = || servers.etcd.as_ref().context("etcd does not take part");
        match self {
            Self::Publish => Ok(pubsub::open(Ways::to(redis, place).await?, place, false)),
            Self::PublishAndReread => Ok(pubsub::open(Ways::to(redis, place).await?, place, true)),
            Self::Keyspace => keyspace::open(Ways::to(redis, place).await?, place).await,
            Self::PlainEtcd => etcd::open(etcd()?, place).await,
            Self::OursOnRedis => registry::on_redis(redis, place).await,
            Self::OursOnEtcd => registry::on_etcd(etcd()?, place).await,
            Self::OursInMemory => registry::in_memory(place),
        }
    }

    /// Opens it on servers that stand in for each other.
    ///
    /// # Errors
    ///
    /// If a server fails, or the means is not put to that test.
    pub async fn open_on_fleet(self, fleet: &Fleet, place: Place<'_>) -> Result<Stage> {
        match self {
            Self::Keyspace => keyspace::open(Ways::to_any_of(&fleet.redis)?, place).await,
            Self::Publish => Ok(pubsub::open(Ways::to_any_of(&fleet.redis)?, place, false)),
            Self::PublishAndReread => Ok(pubsub::open(Ways::to_any_of(&fleet.redis)?, place, true)),
            Self::OursOnRedis => registry::on_sentinel(&fleet.redis, place).await,
            Self::OursOnEtcd => registry::on_cluster(&fleet.etcd, place).await,
            Self::PlainEtcd | Self::OursInMemory => bail!("{} has no fleet", self.name()),
        }
    }
}

impl Servers {
    /// Starts them, or connects to those that the environment names.
    ///
    /// # Errors
    ///
    /// If one is missing.
    pub async fn start(at: Where) -> Result<Self> {
        Ok(Self {
            etcd: Some(Etcd::start_with(at.etcd).await?),
            redis: Redis::start_with(at.redis).await?,
        })
    }

    /// What they say of themselves.
    ///
    /// # Errors
    ///
    /// If one does not answer.
    pub async fn describe(&mut self) -> Result<Vec<String>> {
        let mut told = vec![describe_redis(&mut self.redis).await?];
        if let Some(etcd) = &mut self.etcd {
            told.push(describe_etcd(etcd).await?);
        }
        Ok(told)
    }
}

impl Change {
    /// The `n`th of changes to so many instances, each in turn. It holds `n`.
    pub fn in_turn(n: u32, ids: u8) -> Self {
        let [id, ..] = (n % u32::from(ids)).to_le_bytes(); // less than `ids`
        Self { id, value: Some(n) }
    }
}

impl Diary {
    /// All there is: where it begins, or again, for the reason that `again` says.
    fn note_all(&self, picture: Picture, again: fn(Picture) -> Seen) {
        let seen = if self.is_empty() { Seen::Began(picture) } else { again(picture) };
        self.note(seen);
    }

    fn note(&self, seen: Seen) {
        self.0.borrow_mut().push((Instant::now(), seen));
    }

    /// All of it.
    pub fn read(&self) -> Vec<Seen> {
        self.0.borrow().iter().map(|(_, seen)| seen.clone()).collect()
    }

    /// The changes that were seen by themselves, and when.
    pub fn changes(&self) -> Vec<(Instant, Change)> {
        let change = |(at, seen): &(Instant, Seen)| match seen {
            Seen::Change(change) => Some((*at, *change)),
            _ => None,
        };
        self.0.borrow().iter().filter_map(change).collect()
    }

    /// How much there is.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl Way {
    /// Cuts it: connections are reset, and none can be made until it is healed.
    pub fn cut(&self) {
        match self {
            Self::Proxy(proxy) => {
                proxy.inject(Fault::Refuse);
                proxy.reset();
            }
            Self::Memory(registry) => registry.inject(MemFault::Outage),
            Self::Straight => {}
        }
    }

    /// Lets it stand still: connections stand, and nothing comes through until it is healed.
    pub fn stall(&self) {
        match self {
            Self::Proxy(proxy) => proxy.inject(Fault::Blackhole),
            Self::Memory(registry) => registry.inject(MemFault::Silence),
            Self::Straight => {}
        }
    }

    /// Ends what was done to it.
    pub fn heal(&self) {
        match self {
            Self::Proxy(proxy) => proxy.heal(),
            Self::Memory(registry) => registry.heal(),
            Self::Straight => {}
        }
    }

    /// How many connections, or calls and watches, were hit so far.
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
            Self::Straight => 0,
        }
    }
}

/// The two ways to a Redis that is used as it is.
struct Ways {
    writer: Reach,
    observer: Reach,
    way: Way,
}

impl Ways {
    async fn to(redis: &Redis, place: Place<'_>) -> Result<Self> {
        let (address, way) = way_to(redis.address(), place).await?;
        let observer = Reach::parse(&format!("redis://{address}"))?;
        Ok(Self { writer: Reach::parse(redis.url())?, observer, way })
    }

    fn to_any_of(servers: &RedisSentinel) -> Result<Self> {
        let reach = Reach::parse(&servers.url())?;
        Ok(Self { writer: reach.clone(), observer: reach, way: Way::Straight })
    }
}

/// The way of an observer to a server, and where it begins.
async fn way_to(address: &str, place: Place<'_>) -> Result<(String, Way)> {
    if !place.is_disturbed {
        return Ok((address.to_owned(), Way::Straight));
    }
    let proxy = Proxy::start(address.parse()?).await?;
    Ok((proxy.address().to_string(), Way::Proxy(proxy)))
}

/// Follows again and again. An observer of a plain Redis has nothing to tell when it fails.
async fn for_ever(once: impl AsyncFn() -> Result<()>) {
    loop {
        drop(once().await);
        sleep(BREATH).await;
    }
}

/// The value of an instance, as it is written down in plain Redis with its load.
fn parse(text: &str) -> Option<u32> {
    text.split(' ').next()?.parse().ok()
}
