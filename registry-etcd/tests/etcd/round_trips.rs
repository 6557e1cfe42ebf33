//! The number of requests of each operation, as the server counts them, and of sequential round trips.

use crate::support::{Fixture, claim, connect_as, instance, name, within};
use registry_core::{
    CallOptions, Claim, Consistency, ErrorKind, Instance, Lease, Presence, Registry, Takeover,
};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::{Lag, tolerating};
use std::time::Duration;
use tokio::time::Instant;

/// The layouts, with the number of keys of an available instance.
const LAYOUTS: [(&str, usize); 3] = [("", 1), ("?layout=go-zero", 2), ("?layout=grpc", 2)];

/// Returns the number of unary calls, stream renewals and new watchers so far. The test's own metric reads
/// are no gRPC calls.
async fn requests(etcd: &Fixture) -> u64 {
    let metrics = etcd.metrics().await;
    let counted = metrics.lines().filter(|line| {
        let is_ours = ["KV\"", "Lease\"", "Watch\""].iter().any(|service| line.contains(service));
        line.starts_with("grpc_server_msg_received_total{") && is_ours
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Returns the number of requests that `call` makes.
async fn count<T>(etcd: &Fixture, call: impl Future<Output = T>) -> (u64, T) {
    let before = requests(etcd).await;
    let answer = within(call).await;
    (requests(etcd).await - before, answer)
}

#[tokio::test]
async fn each_operation_makes_as_many_requests_as_documented() {
    for (rest, keys) in LAYOUTS {
        let etcd = Fixture::start_as(rest).await;
        let (one, held, options) = (instance("user", "1"), claim(10), CallOptions::DEFAULT);
        let registry = &etcd.registry;
        let register = async |claim: Claim| count(&etcd, etcd.register(&one, &claim)).await;
        let (read_vacant, holder) = count(&etcd, etcd.read_holder(&one)).await;
        assert_eq!((read_vacant, holder), (1, None), "{rest}");
        let (new, lease) = register(held).await;
        lease.unwrap();
        let (repeated, _) = register(held).await;
        let (updated, _) = count(&etcd, etcd.register(&one.clone().with_weight(7), &held)).await;
        let (drained, _) = count(&etcd, etcd.register(&one.clone().with_weight(0), &held)).await;
        let (back, _) = register(held).await;
        // The transaction and a concurrent renewal.
        assert_eq!([repeated, updated, drained, back], [2; 4], "{rest}");
        etcd.delete(if rest.is_empty() { "registry/user/1" } else { "user/1" }).await;
        let (repaired, lease) = register(held).await;
        assert_eq!(repaired, if rest.is_empty() { 2 } else { 3 }, "{rest}");
        let lease = lease.unwrap();
        // A process that did not register the instance looks up the lease first.
        let unknown = connect_as(&etcd.server, rest).await;
        let (elsewhere, outcome) = count(&etcd, unknown.register(&one, &held, &options)).await;
        assert_eq!((elsewhere, outcome.unwrap()), (4, lease.clone()), "{rest}");
        let unknown = connect_as(&etcd.server, rest).await;
        let heavy = one.clone().with_weight(9);
        let (elsewhere, outcome) = count(&etcd, unknown.register(&heavy, &held, &options)).await;
        assert!(outcome.unwrap().revision() > lease.revision(), "{rest}: the record is updated");
        assert_eq!(elsewhere, 4, "{rest}");
        let (refused, error) = register(claim(10)).await;
        let (read, holder) = count(&etcd, etcd.read_holder(&one)).await;
        assert_eq!(error.unwrap_err().holder(), holder.as_ref(), "{rest}");
        // A registration at startup reads the holder and registers: three sequential round trips, whether the
        // id is held or vacant.
        let takeover = Takeover::From(holder.unwrap());
        let (taken_over, successor) = register(claim(10).with_takeover(takeover)).await;
        let successor = successor.unwrap();
        assert_eq!([new, refused, read, taken_over], [2, 2, 1, 2], "{rest}");

        let (renewed, _) = count(&etcd, etcd.keep_alive(&successor)).await;
        let unknown = connect_as(&etcd.server, rest).await;
        let (checked, outcome) = count(&etcd, unknown.keep_alive(&successor, &options)).await;
        outcome.unwrap();
        let unknown = connect_as(&etcd.server, rest).await;
        let proven = options.with_presence(Presence::Proven);
        let (proven, _) = count(&etcd, unknown.keep_alive(&successor, &proven)).await;
        assert_eq!([renewed, checked, proven], [1, 2, 1], "{rest}");

        let user = name("user");
        let (loaded, now) = count(&etcd, registry.load(&user, &options)).await;
        let stale = options.with_consistency(Consistency::Stale);
        let (stale, _) = count(&etcd, registry.load(&user, &stale)).await;
        let (listed, _) = count(&etcd, registry.services(&options)).await;
        let now = now.unwrap();
        let (watched, _watch) = count(&etcd, registry.watch(&user, now.cursor(), &options)).await;
        assert_eq!([loaded, stale, listed, watched], [1, 1, 1, 3], "{rest}");

        // Kept open, since cancelling a watcher is a message, too.
        let (watched, _own) = count(&etcd, registry.watch_record(&successor, &options)).await;
        assert_eq!(watched, 1 + keys as u64, "{rest}: one watcher per key");

        let (withdrawn, _) = count(&etcd, etcd.deregister(&lease)).await;
        let (again, _) = count(&etcd, etcd.deregister(&successor)).await;
        assert_eq!([withdrawn, again], [2, 2], "{rest}");
    }
}

/// A registry behind a proxy that delays every reply.
struct Distant<'a> {
    registry: EtcdRegistry,
    lag: &'a Lag,
    rest: &'a str,
    _proxy: Proxy,
}

impl Distant<'_> {
    const DELAY: Duration = Duration::from_millis(100);

    /// Asserts that `call` takes as long as `round_trips` sequential ones.
    async fn takes<T>(&self, round_trips: u32, what: &str, call: impl Future<Output = T>) -> T {
        let limit = Self::DELAY * round_trips + Self::DELAY / 2;
        let (start, deadline) = (Instant::now(), self.lag.deadline(limit));
        let answer = within(call).await;
        let took = start.elapsed();
        assert!(took >= Self::DELAY * round_trips, "{what} took {took:?}, {}", self.rest);
        assert!(!deadline.has_passed(), "{what} took {took:?}, {}", self.rest);
        answer
    }

    async fn register(&self, round_trips: u32, what: &str, one: &Instance, claim: &Claim) -> Lease {
        let call = self.registry.register(one, claim, &CallOptions::DEFAULT);
        self.takes(round_trips, what, call).await.unwrap()
    }
}

#[test]
fn each_operation_takes_as_many_round_trips_as_documented() {
    tolerating(Duration::from_secs(1), async |lag| {
        for (rest, keys) in LAYOUTS {
            let etcd = Fixture::start_as(rest).await;
            let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
            let proxy = Proxy::start(address).await.unwrap();
            let url = format!("etcd://{}{rest}", proxy.address()).parse().unwrap();
            let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
            proxy.inject(Fault::DelayReplies { each: Distant::DELAY });
            let far = Distant { registry, lag: &lag, rest, _proxy: proxy };
            let (registry, options) = (&far.registry, CallOptions::DEFAULT);
            let (one, held, user) = (instance("user", "1"), claim(60), name("user"));

            far.takes(1, "holder", registry.holder(&one, &options)).await.unwrap();
            far.register(2, "register", &one, &held).await;
            far.register(1, "repeat", &one, &held).await;
            let (heavy, hidden) = (one.clone().with_weight(7), one.clone().with_weight(0));
            far.register(1, "update", &heavy, &held).await;
            far.register(1, "drain", &hidden, &held).await;
            far.register(1, "end of draining", &one, &held).await;
            let key = if keys == 1 { "registry/user/1" } else { "user/1" };
            etcd.delete(key).await;
            let repair = if keys == 1 { 1 } else { 2 };
            let lease = far.register(repair, "repair", &one, &held).await;
            etcd.revoke(held.lease().get()).await;
            far.takes(1, "renewal", registry.keep_alive(&lease, &options)).await.unwrap_err();
            let lease = far.register(2, "registration after the loss", &one, &held).await;
            let other = claim(60);
            let refused = registry.register(&one, &other, &options);
            let refused = far.takes(2, "refused claim", refused).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Superseded);
            far.takes(1, "renewal", registry.keep_alive(&lease, &options)).await.unwrap();
            let now = far.takes(1, "load", registry.load(&user, &options)).await.unwrap();
            far.takes(1, "services", registry.services(&options)).await.unwrap();
            let watch = registry.watch(&user, now.cursor(), &options);
            let _watch = far.takes(1, "watch", watch).await.unwrap();
            let own = registry.watch_record(&lease, &options);
            let _own = far.takes(2, "own-record watch", own).await.unwrap();
            far.takes(2, "deregister", registry.deregister(&lease, &options)).await.unwrap();
        }
    });
}

#[tokio::test]
async fn repeated_update_after_a_lost_reply_creates_no_revision() {
    for (rest, _) in LAYOUTS {
        let etcd = Fixture::start_as(rest).await;
        let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(address).await.unwrap();
        let url = format!("etcd://{}{rest}", proxy.address()).parse().unwrap();
        let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
        let (held, options) = (claim(60), CallOptions::DEFAULT);
        within(registry.register(&instance("user", "1"), &held, &options)).await.unwrap();
        let moved = instance("user", "1").with_address("10.9.8.7:6543".parse().unwrap());
        let hidden = moved.clone().with_address("10.9.8.6:6543".parse().unwrap()).with_weight(0);
        for update in [&moved, &hidden, &moved] {
            let before = etcd.revision().await;
            proxy.lose_replies_from(update.address().as_str());
            let short = options.with_timeout(Duration::from_millis(500));
            let lost = within(registry.register(update, &held, &short)).await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::Unavailable, "{lost}");
            assert!(proxy.loses_replies(), "the update was never sent");
            within(async {
                // The update was sent, but nothing reports when the server has executed it.
                while etcd.revision().await == before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            proxy.heal();
            // The lost reply closed the connection. A request before the client notices that may fail.
            within(async { while registry.load(update.service(), &options).await.is_err() {} })
                .await;
            for _ in 0..2 {
                let lease = within(registry.register(update, &held, &options)).await.unwrap();
                assert_eq!(lease.revision().get(), before.unsigned_abs() + 1, "{rest}");
            }
            assert_eq!(etcd.revision().await, before + 1, "{rest}");
        }
    }
}
