//! The clients of the servers: they register instances, keep them alive, and follow the service.

use super::deployment::{Deployment, Topology};
use super::plain::{Kind, PlainRedis};
use anyhow::Result;
use async_trait::async_trait;
use registry_core::{
    self as core, CallOptions, Claim, Cursor, Holder, Instance, Lease, Registry, ServiceName,
    Snapshot, Watch,
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

/// The ttl of an instance: longer than a failover takes.
pub(super) const TTL: Duration = Duration::from_secs(5);

/// The service. In a Redis Cluster its shard is on the node that is partitioned.
pub(super) const SERVICE: &str = "user.rpc";

/// How clients store instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientArm {
    /// A hash.
    Hash,
    /// Keys with a ttl.
    Keys,
    /// The registry.
    Ours,
}

/// A client on one side of a partition.
#[async_trait(?Send)]
pub(super) trait Client {
    /// Registers an instance that outlives the run, and returns when it is acknowledged.
    async fn register(&self, id: &str) -> Result<()>;

    /// Returns the ids of all instances.
    async fn listed(&self) -> Result<BTreeSet<String>>;

    /// Keeps an instance registered, as its own process would, for as long as this is polled. It ends only with a
    /// permanent error.
    async fn keep_registered(&self, id: &str) -> Result<Infallible>;

    /// Keeps `seen` up to date with the ids that a caller of the service sees, for as long as this is polled.
    async fn follow(&self, seen: &RefCell<BTreeSet<String>>);
}

/// The clients of one arm on both sides of the partition.
pub(super) struct Clients {
    /// On the side of the isolated server until the partition heals, and then with all servers. `None` where a
    /// client follows redirects, and so does not use an isolated server.
    pub(super) minority: Option<Rc<dyn Client>>,
    /// On the side of all other servers.
    pub(super) majority: Rc<dyn Client>,
}

/// A client of the registry.
struct Ours {
    registry: Arc<dyn Registry>,
    view: View,
}

/// A registry on the minority side until the partition heals, and on the majority side after that.
#[derive(Debug)]
struct SwitchingRegistry {
    minority: Arc<dyn Registry>,
    majority: Arc<dyn Registry>,
    is_healed: Arc<AtomicBool>,
}

impl ClientArm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Keys => "keys with a ttl",
            Self::Ours => "registry",
        }
    }

    /// Returns the arms on a topology.
    pub(super) fn on(topology: Topology) -> &'static [Self] {
        if topology == Topology::Etcd {
            &[Self::Ours]
        } else {
            &[Self::Hash, Self::Keys, Self::Ours]
        }
    }
}

impl Clients {
    pub(super) async fn open(
        arm: ClientArm,
        deployment: &Deployment,
        one: usize,
        is_healed: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let (minority, majority) = (deployment.minority_url(one), deployment.majority_url(one));
        let kind = match arm {
            ClientArm::Hash => Kind::Hash,
            ClientArm::Keys => Kind::Keys,
            ClientArm::Ours => {
                return Self::ours(deployment, &minority, &majority, is_healed).await;
            }
        };
        let minority =
            PlainRedis::open(kind, &minority)?.switch_to(&majority, Arc::clone(is_healed))?;
        let majority = PlainRedis::open(kind, &majority)?;
        Ok(Self { minority: Some(Rc::new(minority)), majority: Rc::new(majority) })
    }

    async fn ours(
        deployment: &Deployment,
        minority: &str,
        majority: &str,
        is_healed: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let majority = connect(majority).await?;
        let minority: Option<Arc<dyn Registry>> = match deployment {
            Deployment::Cluster(_) => None,
            // A member rejoins after the partition: nothing changes for its clients.
            Deployment::Etcd(_) => Some(connect(minority).await?),
            Deployment::Sentinel(_) => {
                let (minority, majority) = (connect(minority).await?, Arc::clone(&majority));
                let is_healed = Arc::clone(is_healed);
                Some(Arc::new(SwitchingRegistry { minority, majority, is_healed }))
            }
        };
        let minority = match minority {
            Some(registry) => Some(Rc::new(Ours::new(registry)?) as Rc<dyn Client>),
            None => None,
        };
        Ok(Self { minority, majority: Rc::new(Ours::new(majority)?) })
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
        let options = DiscoveryOptions { ttl: Some(TTL), ..DiscoveryOptions::default() };
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
        self.registry.register(&Self::instance(id)?, &claim, &CallOptions::DEFAULT).await?;
        Ok(())
    }

    async fn listed(&self) -> Result<BTreeSet<String>> {
        let snapshot = self.registry.load(&SERVICE.parse()?, &CallOptions::DEFAULT).await?;
        Ok(snapshot.records().ids().map(ToString::to_string).collect())
    }

    async fn keep_registered(&self, id: &str) -> Result<Infallible> {
        let options = RegistrationOptions {
            ttl: Some(TTL),
            start: Start::InBackground,
            ..RegistrationOptions::default()
        };
        let registry = Arc::clone(&self.registry);
        let _registration = Registration::start(registry, Self::instance(id)?, options).await?;
        pending().await
    }

    async fn follow(&self, seen: &RefCell<BTreeSet<String>>) {
        loop {
            let ids = self.view.state().records().ids().map(ToString::to_string).collect();
            *seen.borrow_mut() = ids;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl SwitchingRegistry {
    fn current(&self) -> &dyn Registry {
        if self.is_healed.load(Ordering::Relaxed) { &*self.majority } else { &*self.minority }
    }
}

#[async_trait]
impl Registry for SwitchingRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> core::Result<Lease> {
        self.current().register(instance, claim, options).await
    }

    async fn holder(
        &self,
        instance: &Instance,
        options: &CallOptions,
    ) -> core::Result<Option<Holder>> {
        self.current().holder(instance, options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> core::Result<Duration> {
        self.current().keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> core::Result<()> {
        self.current().deregister(lease, options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> core::Result<Snapshot> {
        self.current().load(service, options).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> core::Result<Watch> {
        self.current().watch(service, after, options).await
    }

    async fn services(&self, options: &CallOptions) -> core::Result<BTreeSet<ServiceName>> {
        self.current().services(options).await
    }
}
