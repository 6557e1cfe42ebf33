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

/// The ttl of leases: long enough that none expires on a busy machine.
const TTL: Duration = Duration::from_secs(3);

/// The deadline of a request.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// The longest time that Redis blocks a read of a feed, like `FeedConnection::MAX_BLOCK`.
const BLOCK: Duration = Duration::from_secs(5);

const EACH_SIDE: &[Side] = &[Side::Publisher, Side::Subscriber, Side::Both];
const BOTH_SIDES: &[Side] = &[Side::Both];

const FAULTS: &[(Fault, &[Side])] = &[
    (Fault::Cut, BOTH_SIDES),
    (Fault::Reset, BOTH_SIDES),
    (Fault::Silence, EACH_SIDE),
    (Fault::LostReplies, BOTH_SIDES),
    (Fault::Outage, EACH_SIDE),
    (Fault::Delay, BOTH_SIDES),
    (Fault::Slice, BOTH_SIDES),
    (Fault::Throttle, BOTH_SIDES),
    (Fault::Pause, BOTH_SIDES),
    (Fault::Kill, BOTH_SIDES),
    (Fault::Compaction, BOTH_SIDES),
    (Fault::Rollback, BOTH_SIDES),
    // This deletes the records, since `registry_redis` deletes a lease together with its record.
    (Fault::Revocation, BOTH_SIDES),
];

fn main() -> ExitCode {
    let topology = Topology::from_env();
    if !matches!(topology, Topology::Standalone) {
        return suite(&replicated::options(topology), move || async move {
            Ok(Arc::new(ReplicatedServers::start(topology).await?) as Arc<dyn Environment>)
        });
    }
    let traits = Traits::server(TTL, Duration::from_millis(100));
    // A watch on a silent connection ends within the sum: with this ttl, after 2 s.
    let options = SuiteOptions::new(traits, CALL_DEADLINE, BLOCK + CALL_DEADLINE, FAULTS);
    suite(&options.with_random_runs(0..3, Duration::from_secs(6)), || async {
        Ok(Arc::new(Server::start().await?) as Arc<dyn Environment>)
    })
}

/// One server, a proxy to it for each side, and a registry for each side and for the operator.
struct Server {
    redis: Mutex<Redis>,
    proxies: ProxyPair,
    publisher: RedisRegistry,
    subscriber: RedisRegistry,
    direct: RedisRegistry,
    /// The injected fault, and the service that it was injected for.
    active_fault: Mutex<Option<(Fault, ServiceName)>>,
}

impl Server {
    async fn start() -> Result<Self, String> {
        // A killed server restarts with its data.
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let arguments = durable.map(str::to_owned).to_vec();
        let options = ServerOptions { url: None, arguments, ..Redis::options() };
        let redis = Redis::start_with(options).await.map_err(|error| error.to_string())?;
        // The delay of [`Fault::Delay`]: short, so that renewals and reads still meet their deadlines.
        let delay = TTL / 30;
        let proxies = ProxyPair::start(redis.address().parse().unwrap(), delay).await.unwrap();
        let publisher = connect(&proxies.address(Side::Publisher).to_string()).await;
        let subscriber = connect(&proxies.address(Side::Subscriber).to_string()).await;
        let (direct, active_fault) = (connect(redis.address()).await, Mutex::new(None));
        Ok(Self { redis: Mutex::new(redis), proxies, publisher, subscriber, direct, active_fault })
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
    let url = format!("redis://{address}?prefix=test&ttl={}s", TTL.as_secs()).parse().unwrap();
    let options = RedisOptions::default().with_request_deadline(CALL_DEADLINE);
    RedisRegistry::connect_with(&url, options).await.unwrap()
}

async fn raw_connection(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[async_trait]
impl Environment for Server {
    fn registry(&self, side: Side) -> Arc<dyn Registry> {
        // `Both` gets the publisher's handle: a fault on both sides affects either one.
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
            // `heal` trims the log: the subscriber then misses the trimmed entries.
            Fault::Compaction => self.proxies.inject(Fault::Outage, Side::Subscriber),
            Fault::Rollback => {
                let process = redis.process().unwrap();
                process.wipe().unwrap();
                process.restart().await.unwrap();
            }
            Fault::Revocation => {
                let deleted = delete(&mut raw_connection(&redis).await, service, |_| true).await;
                assert!(deleted > 0, "no record was deleted");
            }
            _ => self.proxies.inject(fault, side),
        }
        *self.active_fault.lock().await = Some((fault, service.clone()));
    }

    async fn delay_replies(&self, side: Side, by: Duration) {
        self.proxies.delay_replies(side, by);
    }

    async fn heal(&self) {
        let mut redis = self.redis.lock().await;
        match self.active_fault.lock().await.take() {
            Some((Fault::Pause, _)) => redis.process().unwrap().resume().unwrap(),
            Some((Fault::Kill, _)) => redis.process().unwrap().restart().await.unwrap(),
            Some((Fault::Compaction, service)) => {
                let trim =
                    redis::cmd("XTRIM").arg(key(&service, "log")).arg("MAXLEN").arg(0).to_owned();
                let trimmed: usize =
                    trim.query_async(&mut raw_connection(&redis).await).await.unwrap();
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
