//! The clients of the servers: they register instances, keep them alive, and follow the service.

use super::deployment::{Deployment, Topology};
use crate::arms::{self, Arm, Keyspace, Ours, Publish, Request};
use crate::harness::stores::connect;
use crate::harness::{RedisLink, Routed};
use anyhow::Result;
use async_trait::async_trait;
use registry_core::{Registry, ServiceName};
use registry_engine::{DiscoveryOptions, Registration, RegistrationOptions, Start};
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
const SERVICE: &str = "user.rpc";

/// How long one server may take to answer a plain client.
const PATIENCE: Duration = Duration::from_millis(300);

/// The time between two full reads of a caller.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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

/// A client by an arm.
struct ArmClient<A> {
    arm: A,
    /// The arm after the partition has healed, with the flag that says so.
    after_heal: Option<(Arc<AtomicBool>, A)>,
    keep: Keep,
    service: ServiceName,
}

/// How an instance is kept registered.
enum Keep {
    /// It is registered once, until that succeeds.
    Once,
    /// It is registered again every third of its ttl.
    Again,
    /// By the engine.
    Registration(Arc<dyn Registry>),
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
        let link = |url: &str| RedisLink::new(url, PATIENCE);
        match arm {
            ClientArm::Hash => {
                let hash = |url: &str| anyhow::Ok(Publish::<false>(link(url)?));
                Self::plain(hash, || Keep::Once, [&minority, &majority], is_healed)
            }
            ClientArm::Keys => {
                let keys = |url: &str| anyhow::Ok(Keyspace(link(url)?));
                Self::plain(keys, || Keep::Again, [&minority, &majority], is_healed)
            }
            ClientArm::Ours => Self::ours(deployment, &minority, &majority, is_healed).await,
        }
    }

    fn plain<A: Arm>(
        open: impl Fn(&str) -> Result<A>,
        keep: impl Fn() -> Keep,
        [minority, majority]: [&str; 2],
        is_healed: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let after_heal = Some((is_healed.clone(), open(majority)?));
        let minority = ArmClient { after_heal, ..ArmClient::new(open(minority)?, keep())? };
        let majority = ArmClient::new(open(majority)?, keep())?;
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
                let (minority, majority) = (connect(minority).await?, majority.clone());
                let is_healed = is_healed.clone();
                Some(Arc::new(Routed(move |_| {
                    let healed = is_healed.load(Ordering::Relaxed);
                    if healed { majority.clone() } else { minority.clone() }
                })))
            }
        };
        let client = |registry: Arc<dyn Registry>| {
            let options = DiscoveryOptions { ttl: Some(TTL), ..DiscoveryOptions::default() };
            let ours = Ours::with_options(registry.clone(), options);
            anyhow::Ok(
                Rc::new(ArmClient::new(ours, Keep::Registration(registry))?) as Rc<dyn Client>
            )
        };
        Ok(Self { minority: minority.map(client).transpose()?, majority: client(majority)? })
    }
}

impl<A: Arm> ArmClient<A> {
    fn new(arm: A, keep: Keep) -> Result<Self> {
        Ok(Self { arm, after_heal: None, keep, service: SERVICE.parse()? })
    }

    fn current(&self) -> &A {
        match &self.after_heal {
            Some((is_healed, arm)) if is_healed.load(Ordering::Relaxed) => arm,
            _ => &self.arm,
        }
    }

    async fn register_for(&self, id: &str, ttl: Duration) -> Result<()> {
        self.current().register(&Request::new(&self.service, id, ttl)?).await.map(drop)
    }
}

#[async_trait(?Send)]
impl<A: Arm> Client for ArmClient<A> {
    async fn register(&self, id: &str) -> Result<()> {
        self.register_for(id, arms::TTL).await
    }

    async fn listed(&self) -> Result<BTreeSet<String>> {
        let loaded = self.current().load(&self.service).await?;
        Ok(loaded.iter().map(|record| record.id().to_string()).collect())
    }

    async fn keep_registered(&self, id: &str) -> Result<Infallible> {
        match &self.keep {
            Keep::Once => {
                while self.register(id).await.is_err() {
                    sleep(POLL_INTERVAL).await;
                }
                pending().await
            }
            Keep::Again => loop {
                // The next renewal may succeed.
                drop(self.register_for(id, TTL).await);
                sleep(TTL / 3).await;
            },
            Keep::Registration(registry) => {
                let options = RegistrationOptions {
                    ttl: Some(TTL),
                    start: Start::InBackground,
                    ..RegistrationOptions::default()
                };
                let instance = Request::new(&self.service, id, TTL)?.instance;
                let _registration =
                    Registration::start(registry.clone(), instance, options).await?;
                pending().await
            }
        }
    }

    async fn follow(&self, seen: &RefCell<BTreeSet<String>>) {
        let view = self.arm.view(&self.service);
        loop {
            let listed = match &view {
                Some(view) => Ok(view.state().records().ids().map(ToString::to_string).collect()),
                None => self.listed().await,
            };
            // Without an answer the caller keeps the last one.
            if let Ok(listed) = listed {
                *seen.borrow_mut() = listed;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
