//! The engine's tests over a real etcd with faults: one member, or three that fail together if
//! `REGISTRY_TEST_ETCD_MEMBERS` is 3.
#![allow(clippy::unwrap_used)]

#[path = "subject/members.rs"]
mod members;

use async_trait::async_trait;
use etcd_client::{Client, DeleteOptions};
use members::{Members, Running};
use registry_core::{CallOptions, Registry, ServiceName};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testbed::engine::{Environment, Fault, ProxyPair, Side, SuiteOptions, suite};
use registry_testbed::servers::{Etcd, ServerOptions};
use registry_testkit::Traits;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The ttl of leases: one second above etcd's minimum, so that none expires on a busy machine.
const TTL: Duration = Duration::from_secs(3);

/// The timeout of a request.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The ping options of a connection. 5 s is the shortest interval that etcd accepts.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(1);

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
    (Fault::Revocation, BOTH_SIDES),
    (Fault::Deletion, BOTH_SIDES),
];

fn main() -> ExitCode {
    let traits = Traits::server(TTL, Duration::from_secs(1));
    // A watch on a silent connection ends within the sum: with this ttl, after 2 s.
    let options = SuiteOptions::new(traits, CALL_TIMEOUT, PING_INTERVAL + PING_TIMEOUT, FAULTS);
    suite(&options.with_random_runs(0..3, Duration::from_secs(6)), || async {
        Ok(Arc::new(Server::start().await?) as Arc<dyn Environment>)
    })
}

/// A server, a proxy to it for each side, and a registry for each side and for the operator.
struct Server {
    etcd: Mutex<Running>,
    proxies: ProxyPair,
    client: Client,
    publisher: EtcdRegistry,
    subscriber: EtcdRegistry,
    direct: EtcdRegistry,
    /// The injected fault.
    active_fault: Mutex<Option<Fault>>,
}

impl Server {
    async fn start() -> Result<Self, String> {
        let options = ServerOptions { url: None, ..Etcd::options() };
        let etcd = Members::from_env().start(options).await.map_err(|error| error.to_string())?;
        let address = etcd.endpoint().trim_start_matches("http://").to_owned();
        let proxies = ProxyPair::start(address.parse().unwrap(), TTL / 30).await.unwrap();
        let client = Client::connect([etcd.endpoint()], None).await.unwrap();
        let publisher = connect(&proxies.address(Side::Publisher).to_string()).await;
        let subscriber = connect(&proxies.address(Side::Subscriber).to_string()).await;
        let (direct, active_fault) = (connect(&address).await, Mutex::new(None));
        Ok(Self {
            etcd: Mutex::new(etcd),
            proxies,
            client,
            publisher,
            subscriber,
            direct,
            active_fault,
        })
    }

    /// Asserts that no call is answered.
    async fn assert_unreachable(&self, service: &ServiceName) {
        let answer =
            timeout(Duration::from_millis(200), self.direct.load(service, &CallOptions::DEFAULT))
                .await;
        assert!(!matches!(answer, Ok(Ok(_))), "the server answers");
    }
}

async fn connect(address: &str) -> EtcdRegistry {
    let options = EtcdOptions {
        request_timeout: CALL_TIMEOUT,
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
        ..EtcdOptions::default()
    };
    let url = format!("etcd://{address}/test?ttl={}s", TTL.as_secs()).parse().unwrap();
    EtcdRegistry::connect_with(&url, options).await.unwrap()
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
        let (mut client, mut etcd) = (self.client.clone(), self.etcd.lock().await);
        match fault {
            Fault::Pause => {
                etcd.pause();
                self.assert_unreachable(service).await;
            }
            Fault::Kill => {
                etcd.kill();
                self.assert_unreachable(service).await;
            }
            // `heal` compacts: the subscriber then misses the compacted history.
            Fault::Compaction => self.proxies.inject(Fault::Outage, Side::Subscriber),
            Fault::Rollback => {
                etcd.wipe();
                etcd.restart().await;
            }
            Fault::Revocation => {
                let leases = client.leases().await.unwrap();
                assert!(!leases.leases().is_empty(), "no lease existed");
                for lease in leases.leases() {
                    client.lease_revoke(lease.id()).await.unwrap();
                }
            }
            Fault::Deletion => {
                let all = DeleteOptions::new().with_prefix();
                let deleted = client.delete("test/", Some(all)).await.unwrap();
                assert!(deleted.deleted() > 0, "nothing was deleted");
            }
            _ => self.proxies.inject(fault, side),
        }
        *self.active_fault.lock().await = Some(fault);
    }

    async fn delay_replies(&self, side: Side, by: Duration) {
        self.proxies.delay_replies(side, by);
    }

    async fn heal(&self) {
        let (mut client, mut etcd) = (self.client.clone(), self.etcd.lock().await);
        match self.active_fault.lock().await.take() {
            Some(Fault::Pause) => etcd.resume(),
            Some(Fault::Kill) => etcd.restart().await,
            Some(Fault::Compaction) => {
                let now = client.get("any", None).await.unwrap().header().unwrap().revision();
                client.compact(now, None).await.unwrap();
            }
            _ => {}
        }
        self.proxies.heal();
    }

    async fn play(&self, seed: u64, length: Duration) {
        self.proxies.play(seed, length).await;
    }
}
