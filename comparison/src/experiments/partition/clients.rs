//! A client on one side of the partition, which keeps instances registered and follows the service.

use super::super::deployment::{Deployment, Topology};
use super::super::observers::{OBSERVER, ObserverArm};
use crate::arms::{Ours, Request};
use crate::harness::Client;
use crate::harness::observe;
use crate::harness::stores::connect;
use anyhow::Result;
use async_trait::async_trait;
use registry_core::{
    self as core, CallOptions, Claim, Cursor, Holder, Instance, Lease, Registry, ServiceName,
    Snapshot, Watch,
};
use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions, Start};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// The ttl of an instance: longer than a failover takes.
const TTL: Duration = Duration::from_secs(5);
/// The service. In a Redis Cluster the partitioned node has its shard.
const SERVICE: &str = "user.rpc";
/// The time between two full reads of a caller.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct SideClient {
    client: Box<dyn Client>,
    /// Another client to use after the partition has healed.
    after_heal: Option<(Arc<AtomicBool>, Box<dyn Client>)>,
    instances: Instances,
}

/// How instances stay registered.
#[derive(Clone)]
enum Instances {
    /// They do not expire. Each is registered once.
    Stay,
    /// Each is registered again every third of its ttl.
    Expire,
    /// The engine renews them, and callers have a view.
    Kept(Arc<dyn Registry>),
}

/// Returns the arms on a topology. Callers of plain Redis poll with full reads.
pub(super) fn arms(topology: Topology) -> &'static [ObserverArm] {
    if topology == Topology::Etcd {
        &[ObserverArm::OursOnEtcd]
    } else {
        &[ObserverArm::Publish, ObserverArm::Keyspace, ObserverArm::OursOnRedis]
    }
}

/// Opens the clients of an arm on both sides. The one on the minority side uses the isolated server until the partition
/// heals, and then all servers. A client that follows redirects does not use an isolated server, so there is none.
pub(super) async fn open(
    arm: ObserverArm,
    deployment: &Deployment,
    one: usize,
    is_healed: &Arc<AtomicBool>,
) -> Result<(Option<SideClient>, SideClient)> {
    let [minority, majority] = &deployment.sides(one);
    if arm.is_plain_redis() {
        let expires = arm == ObserverArm::Keyspace;
        let instances = if expires { Instances::Expire } else { Instances::Stay };
        let open = async |url: &str, after_heal| {
            let client = arm.client(url, SERVICE, OBSERVER).await?;
            anyhow::Ok(SideClient { client, after_heal, instances: instances.clone() })
        };
        let after_heal = arm.client(majority, SERVICE, OBSERVER).await?;
        let minority = open(minority, Some((is_healed.clone(), after_heal))).await?;
        return Ok((Some(minority), open(majority, None).await?));
    }
    let open = |registry: Arc<dyn Registry>| {
        let client = observe::client(Ours::new(registry.clone()), SERVICE, 0)?;
        let instances = Instances::Kept(registry);
        anyhow::Ok(SideClient { client, after_heal: None, instances })
    };
    let majority = connect(majority).await?;
    if matches!(deployment, Deployment::Cluster(_)) {
        return Ok((None, open(majority)?));
    }
    let (minority, is_healed) = (connect(minority).await?, is_healed.clone());
    let switched = Switched { minority, majority: majority.clone(), is_healed };
    Ok((Some(open(Arc::new(switched))?), open(majority)?))
}

/// A registry that uses the minority side until the partition has healed.
#[derive(Debug)]
struct Switched {
    minority: Arc<dyn Registry>,
    majority: Arc<dyn Registry>,
    is_healed: Arc<AtomicBool>,
}

impl Switched {
    fn current(&self) -> &dyn Registry {
        if self.is_healed.load(Ordering::Relaxed) { &*self.majority } else { &*self.minority }
    }
}

#[async_trait]
impl Registry for Switched {
    async fn register(&self, i: &Instance, c: &Claim, o: &CallOptions) -> core::Result<Lease> {
        self.current().register(i, c, o).await
    }

    async fn holder(&self, i: &Instance, o: &CallOptions) -> core::Result<Option<Holder>> {
        self.current().holder(i, o).await
    }

    async fn keep_alive(&self, lease: &Lease, o: &CallOptions) -> core::Result<Duration> {
        self.current().keep_alive(lease, o).await
    }

    async fn deregister(&self, lease: &Lease, o: &CallOptions) -> core::Result<()> {
        self.current().deregister(lease, o).await
    }

    async fn load(&self, service: &ServiceName, o: &CallOptions) -> core::Result<Snapshot> {
        self.current().load(service, o).await
    }

    async fn watch(&self, s: &ServiceName, c: &Cursor, o: &CallOptions) -> core::Result<Watch> {
        self.current().watch(s, c, o).await
    }
}

impl SideClient {
    pub(super) fn current(&self) -> &dyn Client {
        match &self.after_heal {
            Some((is_healed, client)) if is_healed.load(Ordering::Relaxed) => &**client,
            _ => &*self.client,
        }
    }

    /// Keeps an instance registered while it is polled. Returns only a permanent error.
    pub(super) async fn keep_registered(&self, id: String) -> Result<Infallible> {
        match &self.instances {
            Instances::Stay => {
                while self.current().register(&id, TTL).await.is_err() {
                    sleep(POLL_INTERVAL).await;
                }
                pending().await
            }
            Instances::Expire => loop {
                // The next renewal may succeed.
                drop(self.current().register(&id, TTL).await);
                sleep(TTL / 3).await;
            },
            Instances::Kept(registry) => {
                let (ttl, start) = (Some(TTL), Start::InBackground);
                let options = RegistrationOptions::default().with_ttl(ttl).with_start(start);
                let instance = Request::new(&SERVICE.parse()?, &id, TTL)?.instance;
                let _registration =
                    Registration::start(registry.clone(), instance, options).await?;
                pending().await
            }
        }
    }

    /// Updates `seen` with the ids that a caller of the service sees, while it is polled.
    pub(super) async fn follow(&self, seen: &RefCell<BTreeSet<String>>) -> Result<Infallible> {
        let mut view = None;
        if let Instances::Kept(registry) = &self.instances {
            let options = DiscoveryOptions::default().with_ttl(TTL);
            view = Some(Discovery::new(registry.clone(), options).view(&SERVICE.parse()?));
        }
        loop {
            let listed = match &view {
                Some(view) => Ok(view.state().records().ids().map(ToString::to_string).collect()),
                None => self.current().listed().await,
            };
            // After a failed read the caller keeps the last list.
            if let Ok(listed) = listed {
                *seen.borrow_mut() = listed;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
