//! Who uses the servers: those who register, those who live, and those who want to know.

use super::plain::{Kind, Plain};
use super::sites::{Site, System};
use anyhow::Result;
use async_trait::async_trait;
use registry_core::{
    self as core, Claim, Cursor, Instance, Lease, Registry, ServiceName, Snapshot, Watch,
};
use registry_engine::{
    Discovery, DiscoveryOptions, Registration, RegistrationOptions, Start, View,
};
use registry_etcd::EtcdRegistry;
use registry_redis::RedisRegistry;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// How long who lives is listed without a renewal: longer than a failover takes.
pub(super) const TTL: Duration = Duration::from_secs(5);

/// What is registered. Its shard is on the node that is cut off from a Cluster.
pub(super) const SERVICE: &str = "user.rpc";

/// How instances are kept in the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Means {
    /// A hash.
    Hash,
    /// Keys with a ttl.
    Keys,
    /// The registry.
    Ours,
}

/// A client, on one side of a partition.
#[async_trait(?Send)]
pub(super) trait Client {
    /// Registers an instance for longer than this lasts, and returns when that is acknowledged.
    async fn register(&self, id: &str) -> Result<()>;

    /// All there are.
    async fn listed(&self) -> Result<BTreeSet<String>>;

    /// Keeps an instance registered, as who runs it does, for as long as this is polled. It ends only with what
    /// no patience helps against.
    async fn keep(&self, id: &str) -> Result<Infallible>;

    /// Keeps up to date what who calls the service goes by, for as long as this is polled.
    async fn follow(&self, seen: &RefCell<BTreeSet<String>>);
}

/// The clients of one means on both sides.
pub(super) struct Sides {
    /// With the one that is cut off, and with all when that is healed. None where the means goes only where
    /// the servers say that they are.
    pub(super) alone: Option<Rc<dyn Client>>,
    /// With all others.
    pub(super) others: Rc<dyn Client>,
}

/// A client of the registry.
struct Ours {
    registry: Arc<dyn Registry>,
    view: View,
}

/// A registry that is another one later: that of the servers that one is cut off with, until it is healed.
#[derive(Debug)]
struct Parted {
    now: Arc<dyn Registry>,
    later: Arc<dyn Registry>,
    is_later: Arc<AtomicBool>,
}

impl Means {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Keys => "keys with a ttl",
            Self::Ours => "registry",
        }
    }

    /// What there is over a system.
    pub(super) fn over(system: System) -> &'static [Self] {
        if system == System::Etcd { &[Self::Ours] } else { &[Self::Hash, Self::Keys, Self::Ours] }
    }
}

impl Sides {
    pub(super) async fn open(
        means: Means,
        site: &Site,
        one: usize,
        is_healed: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let (alone, others) = (site.alone(one), site.others(one));
        let kind = match means {
            Means::Hash => Kind::Hash,
            Means::Keys => Kind::Keys,
            Means::Ours => return Self::ours(site, &alone, &others, is_healed).await,
        };
        let beside = Plain::open(kind, &alone)?.and_later(Arc::clone(is_healed), &others)?;
        Ok(Self { alone: Some(Rc::new(beside)), others: Rc::new(Plain::open(kind, &others)?) })
    }

    async fn ours(
        site: &Site,
        alone: &str,
        others: &str,
        is_healed: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let later = connect(others).await?;
        let now: Option<Arc<dyn Registry>> = match site {
            Site::Cluster(_) => None,
            // A member that was cut off is a member again: nothing changes for its clients.
            Site::Etcd(_) => Some(connect(alone).await?),
            Site::Sentinel(_) => {
                let (now, later) = (connect(alone).await?, Arc::clone(&later));
                Some(Arc::new(Parted { now, later, is_later: Arc::clone(is_healed) }))
            }
        };
        let alone = match now {
            Some(now) => Some(Rc::new(Ours::new(now)?) as Rc<dyn Client>),
            None => None,
        };
        Ok(Self { alone, others: Rc::new(Ours::new(later)?) })
    }
}

async fn connect(url: &str) -> Result<Arc<dyn Registry>> {
    Ok(if url.starts_with("etcd") {
        Arc::new(EtcdRegistry::connect(&url.parse()?).await?)
    } else {
        Arc::new(RedisRegistry::connect(&url.parse()?).await?)
    })
}

impl Ours {
    fn new(registry: Arc<dyn Registry>) -> Result<Self> {
        let options = DiscoveryOptions { ttl: TTL, ..DiscoveryOptions::default() };
        let discovery = Discovery::new(Arc::clone(&registry), options);
        Ok(Self { registry, view: discovery.view(&SERVICE.parse()?) })
    }

    fn instance(id: &str) -> Result<Instance> {
        Ok(Instance::new(SERVICE.parse()?, id.parse()?, "10.0.0.1:8080".parse()?))
    }
}

#[async_trait(?Send)]
impl Client for Ours {
    async fn register(&self, id: &str) -> Result<()> {
        let claim = Claim::new(crate::arms::TTL)?;
        self.registry.register(&Self::instance(id)?, &claim).await?;
        Ok(())
    }

    async fn listed(&self) -> Result<BTreeSet<String>> {
        let snapshot = self.registry.load(&SERVICE.parse()?).await?;
        Ok(snapshot.instances().ids().map(ToString::to_string).collect())
    }

    async fn keep(&self, id: &str) -> Result<Infallible> {
        let options = RegistrationOptions {
            ttl: TTL,
            start: Start::InBackground,
            ..RegistrationOptions::default()
        };
        let registry = Arc::clone(&self.registry);
        let _held = Registration::start(registry, Self::instance(id)?, options).await?;
        pending().await
    }

    async fn follow(&self, seen: &RefCell<BTreeSet<String>>) {
        loop {
            let ids = self.view.state().instances().ids().map(ToString::to_string).collect();
            *seen.borrow_mut() = ids;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Parted {
    fn current(&self) -> &dyn Registry {
        if self.is_later.load(Ordering::Relaxed) { &*self.later } else { &*self.now }
    }
}

#[async_trait]
impl Registry for Parted {
    async fn register(&self, instance: &Instance, claim: &Claim) -> core::Result<Lease> {
        self.current().register(instance, claim).await
    }

    async fn keep_alive(&self, lease: &Lease) -> core::Result<()> {
        self.current().keep_alive(lease).await
    }

    async fn deregister(&self, lease: &Lease) -> core::Result<()> {
        self.current().deregister(lease).await
    }

    async fn load(&self, service: &ServiceName) -> core::Result<Snapshot> {
        self.current().load(service).await
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> core::Result<Watch> {
        self.current().watch(service, after).await
    }

    async fn services(&self) -> core::Result<BTreeSet<ServiceName>> {
        self.current().services().await
    }
}
