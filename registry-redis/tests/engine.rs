//! The engine's tests over a real Redis with faults: one server, or replicated ones if
//! `REGISTRY_TEST_REDIS_TOPOLOGY` is `sentinel` or `cluster`.
#![allow(clippy::unwrap_used)]

mod replicated;
#[path = "subject/servers.rs"]
mod servers;
mod shard;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use registry_core::{CallOptions, Registry, ServiceName};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::engine::{Environment, Fault, ProxyPair, Side, SuiteOptions, suite};
use registry_testbed::servers::{Redis, ServerOptions};
use registry_testkit::Traits;
use replicated::ReplicatedServers;
use servers::Topology;
use shard::{delete, key};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Long enough that no lease expires on a busy machine.
const TTL: Duration = Duration::from_secs(3);

const CALL: Duration = Duration::from_secs(2);

/// How long a read of the feed blocks. Its deadline is longer by that of a call.
const BLOCK: Duration = Duration::from_secs(5);

const EACH: &[Side] = &[Side::Publisher, Side::Subscriber, Side::Both];
const BOTH: &[Side] = &[Side::Both];

const FAULTS: &[(Fault, &[Side])] = &[
    (Fault::Cut, BOTH),
    (Fault::Reset, BOTH),
    (Fault::Silence, EACH),
    (Fault::LostReplies, BOTH),
    (Fault::Outage, EACH),
    (Fault::Delay, BOTH),
    (Fault::Slice, BOTH),
    (Fault::Throttle, BOTH),
    (Fault::Pause, BOTH),
    (Fault::Kill, BOTH),
    (Fault::Compaction, BOTH),
    (Fault::Rollback, BOTH),
    // A lease and its record are deleted together.
    (Fault::Revocation, BOTH),
];

fn main() -> ExitCode {
    let topology = Topology::from_env();
    if !matches!(topology, Topology::Standalone) {
        return suite(&replicated::options(topology), move || async move {
            Ok(Arc::new(ReplicatedServers::start(topology).await?) as Arc<dyn Environment>)
        });
    }
    let traits = Traits::server(TTL, Duration::from_millis(100));
    let options = SuiteOptions::new(traits, CALL, BLOCK + CALL, FAULTS);
    suite(&options.with_random_runs(0..3, Duration::from_secs(6)), || async {
        Ok(Arc::new(Server::start().await?) as Arc<dyn Environment>)
    })
}

/// One server, a proxy to it for each side, and a registry for the operator.
struct Server {
    redis: Mutex<Redis>,
    proxies: ProxyPair,
    publisher: RedisRegistry,
    subscriber: RedisRegistry,
    direct: RedisRegistry,
    active: Mutex<Option<(Fault, ServiceName)>>,
}

impl Server {
    async fn start() -> Result<Self, String> {
        // A killed server restarts with its data.
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let arguments = durable.map(str::to_owned).to_vec();
        let own = ServerOptions { url: None, arguments, ..Redis::options() };
        let redis = Redis::start_with(own).await.map_err(|error| error.to_string())?;
        let proxies = ProxyPair::start(redis.address().parse().unwrap(), TTL / 30).await.unwrap();
        let publisher = connect(&proxies.address(Side::Publisher).to_string()).await;
        let subscriber = connect(&proxies.address(Side::Subscriber).to_string()).await;
        let (direct, active) = (connect(redis.address()).await, Mutex::new(None));
        Ok(Self { redis: Mutex::new(redis), proxies, publisher, subscriber, direct, active })
    }

    /// Asserts that the server does not answer.
    async fn assert_unreachable(&self, service: &ServiceName) {
        let answer =
            timeout(Duration::from_millis(200), self.direct.load(service, &CallOptions::DEFAULT))
                .await;
        assert!(!matches!(answer, Ok(Ok(_))), "the server answers");
    }
}

async fn connect(address: &str) -> RedisRegistry {
    // A watch ends after two thirds of this ttl without a sign of life.
    let url = format!("redis://{address}?prefix=test&ttl={}s", TTL.as_secs()).parse().unwrap();
    let options = RedisOptions::default().with_request_deadline(CALL);
    RedisRegistry::connect_with(&url, options).await.unwrap()
}

async fn operator(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[async_trait]
impl Environment for Server {
    fn registry(&self, side: Side) -> Arc<dyn Registry> {
        Arc::new(if side.has_publisher() { &self.publisher } else { &self.subscriber }.clone())
    }

    fn direct(&self) -> Arc<dyn Registry> {
        Arc::new(self.direct.clone())
    }

    async fn inject(&self, fault: Fault, side: Side, service: &ServiceName) {
        let mut redis = self.redis.lock().await;
        match fault {
            Fault::Pause => {
                redis.process().unwrap().pause().unwrap();
                self.assert_unreachable(service).await;
            }
            Fault::Kill => {
                redis.process().unwrap().kill().unwrap();
                self.assert_unreachable(service).await;
            }
            Fault::Compaction => self.proxies.inject(Fault::Outage, Side::Subscriber),
            Fault::Rollback => {
                let process = redis.process().unwrap();
                process.wipe().unwrap();
                process.restart().await.unwrap();
            }
            Fault::Revocation => {
                let deleted = delete(&mut operator(&redis).await, service, |_| true).await;
                assert!(deleted > 0, "there is no lease");
            }
            _ => self.proxies.inject(fault, side),
        }
        *self.active.lock().await = Some((fault, service.clone()));
    }

    async fn delay_replies(&self, side: Side, by: Duration) {
        self.proxies.delay_replies(side, by);
    }

    async fn heal(&self) {
        let mut redis = self.redis.lock().await;
        match self.active.lock().await.take() {
            Some((Fault::Pause, _)) => redis.process().unwrap().resume().unwrap(),
            Some((Fault::Kill, _)) => redis.process().unwrap().restart().await.unwrap(),
            Some((Fault::Compaction, service)) => {
                let trim =
                    redis::cmd("XTRIM").arg(key(&service, "log")).arg("MAXLEN").arg(0).to_owned();
                let trimmed: usize = trim.query_async(&mut operator(&redis).await).await.unwrap();
                assert!(trimmed > 0, "no entry was trimmed");
            }
            _ => {}
        }
        self.proxies.heal();
    }

    async fn play(&self, seed: u64, length: Duration) {
        self.proxies.play(seed, length).await;
    }
}
