//! A client on one side of the partition: it registers instances, keeps them alive, and follows the service.

use super::super::deployment::{Deployment, Topology};
use super::super::observers::{OBSERVER, ObserverArm};
use crate::arms::{Ours, Request};
use crate::harness::observe::ArmClient;
use crate::harness::stores::connect;
use crate::harness::{Client, Routed};
use anyhow::Result;
use registry_core::Registry;
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

/// The service. In a Redis Cluster its shard is on the node that is partitioned.
const SERVICE: &str = "user.rpc";

/// The time between two full reads of a caller.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A client on one side.
pub(super) struct SideClient {
    client: Box<dyn Client>,
    /// What it uses when the partition has healed, if it is another one.
    after_heal: Option<(Arc<AtomicBool>, Box<dyn Client>)>,
    instances: Instances,
}

/// What becomes of registered instances.
#[derive(Clone)]
enum Instances {
    /// They stay: each is registered once.
    Stay,
    /// They expire: each is registered again every third of its ttl.
    Expire,
    /// The engine keeps them registered, and callers have a view.
    Kept(Arc<dyn Registry>),
}

/// Returns the arms on a topology. Callers do not watch plain Redis but read everything.
pub(super) fn arms(topology: Topology) -> &'static [ObserverArm] {
    if topology == Topology::Etcd {
        &[ObserverArm::OursOnEtcd]
    } else {
        &[ObserverArm::Publish, ObserverArm::Keyspace, ObserverArm::OursOnRedis]
    }
}

/// Opens the clients of an arm: on the side of the isolated server until the partition heals, and then with all servers;
/// and on the side of all other servers. There is no first where a client follows redirects, and so does not use an
/// isolated server.
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
        let client = Box::new(ArmClient::new(Ours::from(registry.clone()), SERVICE, 0)?);
        let instances = Instances::Kept(registry);
        anyhow::Ok(SideClient { client, after_heal: None, instances })
    };
    let majority = connect(majority).await?;
    if matches!(deployment, Deployment::Cluster(_)) {
        return Ok((None, open(majority)?));
    }
    let (minority, is_healed) = (connect(minority).await?, is_healed.clone());
    let both = [minority, majority.clone()];
    let route = move || both[usize::from(is_healed.load(Ordering::Relaxed))].clone();
    Ok((Some(open(Arc::new(Routed(route)))?), open(majority)?))
}

impl SideClient {
    /// Returns the client that is used now.
    pub(super) fn current(&self) -> &dyn Client {
        match &self.after_heal {
            Some((is_healed, client)) if is_healed.load(Ordering::Relaxed) => &**client,
            _ => &*self.client,
        }
    }

    /// Keeps an instance registered, as its own process would, for as long as this is polled. It ends only with a
    /// permanent error.
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

    /// Keeps `seen` up to date with the ids that a caller of the service sees, for as long as this is polled.
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
            // Without an answer the caller keeps the last one.
            if let Ok(listed) = listed {
                *seen.borrow_mut() = listed;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
