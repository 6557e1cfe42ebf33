//! A cluster of three members loses one: instances stay registered, and no view loses them.

use crate::support::{instance, name, within};
use registry_core::{CallOptions, Registry, Target};
use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions, View};
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::{EtcdCluster, Process};
use registry_testkit::lag::timeout;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

const TTL: Duration = Duration::from_secs(5);

/// The time within which a cluster recovers. An election takes up to 2 s, and a busy machine may need several.
const RECOVERED: Duration = Duration::from_secs(40);

/// A cluster with services that discover each other.
struct Fleet {
    cluster: EtcdCluster,
    registry: Arc<EtcdRegistry>,
    registrations: Vec<Registration>,
    view: View,
}

impl Fleet {
    async fn start() -> Self {
        let cluster = timeout(RECOVERED, EtcdCluster::start()).await.unwrap().unwrap();
        let registry = Arc::new(connect(&cluster.url().parse().unwrap()).await);
        let mut fleet =
            Self { view: view(&registry), cluster, registry, registrations: Vec::new() };
        for n in 0..10 {
            // Half of them connect on their own, to random members.
            let own: Arc<dyn Registry> = match n % 2 {
                0 => fleet.registry.clone(),
                _ => Arc::new(connect(&fleet.cluster.url().parse().unwrap()).await),
            };
            fleet.add(own, n).await;
        }
        fleet.until_shown(10).await;
        fleet
    }

    async fn add(&mut self, registry: Arc<dyn Registry>, n: usize) {
        let options = RegistrationOptions::default().with_ttl(TTL);
        let node = instance("user", &n.to_string());
        let started = timeout(RECOVERED, Registration::start(registry, node, options));
        self.registrations.push(started.await.unwrap().unwrap());
    }

    async fn until_shown(&mut self, count: usize) {
        let shown = async {
            while self.view.state().instances().len() != count {
                self.view.changed().await.unwrap();
            }
        };
        timeout(RECOVERED, shown).await.expect("the view shows all instances");
    }

    /// Asserts that for `time` no view loses an instance, and that all are registered at the end.
    async fn assert_no_instance_lost_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let count = self.registrations.len();
        loop {
            assert_eq!(
                self.view.state().instances().len(),
                count,
                "{:?}",
                self.view.state().status()
            );
            if timeout_at(end, self.view.changed()).await.is_err() {
                break;
            }
        }
        assert!(self.view.state().status().is_live(), "{:?}", self.view.state().status());
        assert!(self.registrations.iter().all(|one| one.status().is_active()));
        let stored =
            within(self.registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(stored.instances().len(), count, "the store has them too");
    }

    /// Registers a new instance and waits until the view shows it.
    async fn assert_updates_arrive(&mut self) {
        let n = self.registrations.len();
        self.add(self.registry.clone(), n).await;
        self.until_shown(n + 1).await;
    }
}

async fn connect(target: &Target) -> EtcdRegistry {
    timeout(RECOVERED, EtcdRegistry::connect(target)).await.unwrap().unwrap()
}

fn view(registry: &Arc<EtcdRegistry>) -> View {
    let options = DiscoveryOptions::default().with_ttl(TTL);
    Discovery::new(registry.clone(), options).view(&name("user"))
}

/// Applies `strike` to the leader and asserts that no instance is lost, for as long as unrenewed leases live.
async fn no_instance_is_lost_when(strike: impl FnOnce(&mut Process)) -> Fleet {
    let mut fleet = Fleet::start().await;
    let leader = within(fleet.cluster.leader()).await.unwrap();
    strike(fleet.cluster.process(leader));
    fleet.assert_updates_arrive().await;
    fleet.assert_no_instance_lost_for(3 * TTL).await;
    let successor = within(fleet.cluster.leader()).await.unwrap();
    assert_ne!(successor, leader);
    fleet
}

#[tokio::test]
async fn killed_leader_loses_no_instance() {
    no_instance_is_lost_when(|leader| leader.kill().unwrap()).await;
}

#[tokio::test]
async fn paused_leader_loses_no_instance() {
    no_instance_is_lost_when(|leader| leader.pause().unwrap()).await;
}

#[tokio::test]
async fn leader_partitioned_with_its_clients_loses_no_instance() {
    let mut fleet = Fleet::start().await;
    let leader = within(fleet.cluster.leader()).await.unwrap();
    timeout(RECOVERED, fleet.cluster.partition(leader)).await.unwrap().unwrap();
    fleet.assert_updates_arrive().await;
    fleet.assert_no_instance_lost_for(3 * TTL).await;
    timeout(RECOVERED, fleet.cluster.heal()).await.unwrap().unwrap();
    fleet.assert_updates_arrive().await;
    fleet.assert_no_instance_lost_for(TTL).await;
}

#[tokio::test]
async fn partitioned_member_serves_no_stale_reads() {
    let mut cluster = timeout(RECOVERED, EtcdCluster::start()).await.unwrap().unwrap();
    let cut_off = (within(cluster.leader()).await.unwrap() + 1) % 3;
    let partitioned = cluster.endpoint(cut_off).replace("http://", "etcd://").parse().unwrap();
    let partitioned = connect(&partitioned).await;
    within(partitioned.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
    timeout(RECOVERED, cluster.partition(cut_off)).await.unwrap().unwrap();
    let error = within(partitioned.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), registry_core::ErrorKind::Unavailable, "the member has no quorum");

    // A client that knows the other members uses them, whichever member it tries first.
    for _ in 0..5 {
        let registry = connect(&cluster.url().parse().unwrap()).await;
        within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
    }
}

#[tokio::test]
async fn wiped_cluster_has_diverged_and_instances_register_again() {
    let mut fleet = Fleet::start().await;
    let before = within(fleet.registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
    for member in 0..3 {
        fleet.cluster.process(member).kill().unwrap();
        fleet.cluster.process(member).wipe().unwrap();
    }
    timeout(RECOVERED, fleet.cluster.restart_all()).await.unwrap().unwrap();
    let diverged = async {
        loop {
            match fleet.registry.watch(&name("user"), before.cursor(), &CallOptions::DEFAULT).await
            {
                Err(error) if error.kind() == registry_core::ErrorKind::Unavailable => {}
                other => return other.map(drop).unwrap_err().kind(),
            }
        }
    };
    let kind = timeout(RECOVERED, diverged).await.unwrap();
    assert_eq!(kind, registry_core::ErrorKind::Diverged);
    // All instances register again at their next renewal, and none leaves the view meanwhile.
    fleet.assert_no_instance_lost_for(3 * TTL).await;
}
