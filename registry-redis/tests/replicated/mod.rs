//! Replicated servers, for the engine's tests.
//!
//! There is no proxy in front of them, since clients connect to the addresses that the servers announce.

use crate::servers::{Servers, Topology};
use crate::shard::{delete, key};
use async_trait::async_trait;
use redis::AsyncCommands;
use registry_core::{CallOptions, Registry, ServiceName};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::engine::{Environment, Fault, Side, SuiteOptions};
use registry_testbed::servers::{Redis, ServerOptions};
use registry_testkit::Traits;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The ttl of leases. After a failover at least two thirds of it remain, enough to detect the failover and renew.
const TTL: Duration = Duration::from_secs(8);

/// The deadline of a request.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// An upper bound of the time after which a watch on a silent connection ends: with this ttl, after 5.3 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(7);

const BOTH_SIDES: &[Side] = &[Side::Both];

const UNDER_SENTINEL: &[(Fault, &[Side])] = &[
    (Fault::Cut, BOTH_SIDES),
    (Fault::Pause, BOTH_SIDES),
    (Fault::Failover, BOTH_SIDES),
    (Fault::Partition, BOTH_SIDES),
    (Fault::Rollback, BOTH_SIDES),
    (Fault::Revocation, BOTH_SIDES),
];

/// The faults on a Cluster. A partition is omitted: the partitioned node refuses all calls, as after a failover.
const ON_A_CLUSTER: &[(Fault, &[Side])] = &[
    (Fault::Cut, BOTH_SIDES),
    // This pauses all servers, since pausing one only causes a failover.
    (Fault::Pause, BOTH_SIDES),
    (Fault::Failover, BOTH_SIDES),
    (Fault::Rollback, BOTH_SIDES),
    // This deletes the records, since `registry_redis` deletes a lease together with its record.
    (Fault::Revocation, BOTH_SIDES),
];

const SENTINEL_ONLY: &str = "only servers under Sentinel are partitioned";

pub(crate) fn options(topology: Topology) -> SuiteOptions {
    let traits = Traits::server(TTL, Duration::from_millis(100));
    let options = |faults| SuiteOptions::new(traits, CALL_DEADLINE, SILENCE_TIMEOUT, faults);
    match topology {
        // No random runs, since a requested failover loses the last acknowledged writes.
        Topology::Standalone | Topology::Sentinel => options(UNDER_SENTINEL),
        Topology::Cluster => options(ON_A_CLUSTER).with_random_runs(0..3, Duration::from_secs(15)),
    }
}

/// The servers, and a registry for each side and for the operator.
pub(crate) struct ReplicatedServers {
    servers: Mutex<Servers>,
    publisher: RedisRegistry,
    subscriber: RedisRegistry,
    direct: RedisRegistry,
    active: Mutex<Option<ActiveFault>>,
}

/// A fault that lasts until it is healed.
enum ActiveFault {
    Pause,
    /// The server that was killed.
    Failover(usize),
    /// The server that was partitioned.
    Partition(usize),
}

impl ReplicatedServers {
    pub(crate) async fn start(topology: Topology) -> Result<Self, String> {
        // A killed server restarts with its data.
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let arguments = durable.map(str::to_owned).to_vec();
        let own = ServerOptions { url: None, arguments, ..Redis::options() };
        let servers = topology.start(own).await.map_err(|error| error.to_string())?;
        let url = servers.url();
        let (publisher, subscriber) = (connect(&url).await, connect(&url).await);
        let (direct, active) = (connect(&url).await, Mutex::new(None));
        Ok(Self { servers: Mutex::new(servers), publisher, subscriber, direct, active })
    }

    /// Kills the server of `service` once its replicas are in sync, and waits until another server has taken
    /// over. Returns the killed server.
    async fn fail_over(servers: &mut Servers, service: &ServiceName) -> usize {
        let log = key(service, "log");
        let owner = servers.owner(&log).await;
        let replicas = if matches!(servers, Servers::Sentinel(_)) { 2 } else { 1 };
        let wait = redis::cmd("WAIT").arg(replicas).arg(10_000).to_owned();
        let in_step: u64 = wait.query_async(&mut servers.connection(&log).await).await.unwrap();
        assert_eq!(in_step, replicas, "the replicas are not in sync");
        servers.process(owner).kill().unwrap();
        let successor = servers.successor_of(owner, &log).await;
        assert_ne!(successor, owner);
        owner
    }
}

async fn connect(url: &str) -> RedisRegistry {
    let url = format!("{url}?prefix=test").parse().unwrap();
    let options = RedisOptions::default().with_request_deadline(CALL_DEADLINE);
    RedisRegistry::connect_with(&url, options).await.unwrap()
}

#[async_trait]
impl Environment for ReplicatedServers {
    fn registry(&self, side: Side) -> Arc<dyn Registry> {
        Arc::new(if side.has_publisher() { &self.publisher } else { &self.subscriber }.clone())
    }

    fn direct(&self) -> Arc<dyn Registry> {
        Arc::new(self.direct.clone())
    }

    async fn inject(&self, fault: Fault, _: Side, service: &ServiceName) {
        let mut servers = self.servers.lock().await;
        match fault {
            Fault::Cut => servers.cut().await,
            Fault::Pause => {
                servers.each(|server| server.pause().unwrap());
                *self.active.lock().await = Some(ActiveFault::Pause);
                let answer = timeout(
                    Duration::from_millis(200),
                    self.direct.load(service, &CallOptions::DEFAULT),
                )
                .await;
                assert!(!matches!(answer, Ok(Ok(_))), "a server answers");
            }
            Fault::Failover => {
                let killed = Self::fail_over(&mut servers, service).await;
                *self.active.lock().await = Some(ActiveFault::Failover(killed));
            }
            Fault::Partition => {
                let Servers::Sentinel(sentinel) = &*servers else {
                    unreachable!("{SENTINEL_ONLY}")
                };
                let cut_off = sentinel.primary().await.unwrap();
                sentinel.cut_off(cut_off);
                *self.active.lock().await = Some(ActiveFault::Partition(cut_off));
            }
            Fault::Rollback => {
                let mut operator = servers.connection(&key(service, "log")).await;
                let _: () = operator.flushall().await.unwrap();
            }
            Fault::Revocation => {
                let mut operator = servers.connection(&key(service, "state")).await;
                let deleted = delete(&mut operator, service, |_| true).await;
                assert!(deleted > 0, "there is no lease");
            }
            _ => unreachable!("{fault} is not in the list of faults"),
        }
    }

    async fn heal(&self) {
        let mut servers = self.servers.lock().await;
        match self.active.lock().await.take() {
            Some(ActiveFault::Pause) => servers.each(|server| server.resume().unwrap()),
            Some(ActiveFault::Failover(killed)) => servers.process(killed).restart().await.unwrap(),
            Some(ActiveFault::Partition(cut_off)) => {
                let Servers::Sentinel(sentinel) = &*servers else {
                    unreachable!("{SENTINEL_ONLY}")
                };
                sentinel.successor_of(cut_off).await.unwrap();
                sentinel.heal();
                // Until it has rejoined, it acknowledges writes that it will lose, including deregistrations.
                sentinel.rejoined(cut_off).await.unwrap();
            }
            None => {}
        }
    }

    /// Moves shards of a Cluster, fails over to replicas, and cuts connections.
    async fn play(&self, seed: u64, length: Duration) {
        let mut random = fastrand::Rng::with_seed(seed);
        let log = key(&"user.rpc".parse().unwrap(), "log");
        let (end, mut done) = (Instant::now() + length, 0);
        while Instant::now() < end {
            let servers = self.servers.lock().await;
            let Servers::Cluster(cluster) = &*servers else {
                unreachable!("random runs are for a Cluster")
            };
            match random.u8(..3) {
                0 => servers.cut().await,
                1 => drop(cluster.fail_over(&log).await.unwrap()),
                _ => drop(cluster.move_on(&log).await.unwrap()),
            }
            done += 1;
        }
        assert!(done > 0, "nothing happened");
    }
}
