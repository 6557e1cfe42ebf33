//! How many requests and how many sequential round trips each operation makes.

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

/// Returns the number of unary calls, stream renewals and new watchers so far, as etcd counts them. The test's own
/// metric reads are not gRPC calls.
async fn requests(etcd: &Fixture) -> u64 {
    let metrics = etcd.metrics().await;
    let counted = metrics.lines().filter(|line| {
        let is_counted =
            ["KV\"", "Lease\"", "Watch\""].iter().any(|service| line.contains(service));
        line.starts_with("grpc_server_msg_received_total{") && is_counted
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Returns the number of requests that `call` makes.
async fn count<T>(etcd: &Fixture, call: impl Future<Output = T>) -> (u64, T) {
    let before = requests(etcd).await;
    let answer = within(call).await;
    (requests(etcd).await - before, answer)
}

/// A higher number means more load on etcd. A registration, for example, grants the lease and runs one transaction.
#[tokio::test]
async fn each_operation_makes_the_expected_number_of_requests() {
    for (query, keys) in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let (user_1, own_claim, options) = (instance("user", "1"), claim(10), CallOptions::DEFAULT);
        let registry = &etcd.registry;
        let register = async |claim: Claim| count(&etcd, etcd.register(&user_1, &claim)).await;
        let (read_vacant, holder) = count(&etcd, etcd.read_holder(&user_1)).await;
        assert_eq!((read_vacant, holder), (1, None), "{query}");
        let (new, lease) = register(own_claim).await;
        lease.unwrap();
        let (repeated, _) = register(own_claim).await;
        let (updated, _) =
            count(&etcd, etcd.register(&user_1.clone().with_weight(7), &own_claim)).await;
        let (drained, _) =
            count(&etcd, etcd.register(&user_1.clone().with_weight(0), &own_claim)).await;
        let (undrained, _) = register(own_claim).await;
        // The transaction and a concurrent renewal.
        assert_eq!([repeated, updated, drained, undrained], [2; 4], "{query}");
        etcd.delete(if query.is_empty() { "registry/user/1" } else { "user/1" }).await;
        let (repaired, lease) = register(own_claim).await;
        assert_eq!(repaired, if query.is_empty() { 2 } else { 3 }, "{query}");
        let lease = lease.unwrap();
        // A process that did not register the instance looks up the lease first. Its four requests: a grant, which is
        // refused since the lease exists, the lookup, the transaction and a renewal.
        let other_process = connect_as(&etcd.server, query).await;
        let (by_other, outcome) =
            count(&etcd, other_process.register(&user_1, &own_claim, &options)).await;
        assert_eq!((by_other, outcome.unwrap()), (4, lease.clone()), "{query}");
        let other_process = connect_as(&etcd.server, query).await;
        let heavy = user_1.clone().with_weight(9);
        let (by_other, outcome) =
            count(&etcd, other_process.register(&heavy, &own_claim, &options)).await;
        assert!(
            outcome.unwrap().revision() > lease.revision(),
            "{query}: the record was not updated"
        );
        assert_eq!(by_other, 4, "{query}");
        let (refused, error) = register(claim(10)).await;
        let (read, holder) = count(&etcd, etcd.read_holder(&user_1)).await;
        assert_eq!(error.unwrap_err().holder(), holder.as_ref(), "{query}");
        // A registration at startup reads the holder and registers: three requests, whether the id is held or vacant.
        let takeover = Takeover::From(holder.unwrap());
        let (taken_over, successor) = register(claim(10).with_takeover(takeover)).await;
        let successor = successor.unwrap();
        assert_eq!([new, refused, read, taken_over], [2, 2, 1, 2], "{query}");

        let (renewed, _) = count(&etcd, etcd.keep_alive(&successor)).await;
        let other_process = connect_as(&etcd.server, query).await;
        let (checked, outcome) = count(&etcd, other_process.keep_alive(&successor, &options)).await;
        outcome.unwrap();
        let other_process = connect_as(&etcd.server, query).await;
        let unchecked = options.with_presence(Presence::Proven);
        let (unchecked, _) = count(&etcd, other_process.keep_alive(&successor, &unchecked)).await;
        // The second renewal also checks the presence of the record.
        assert_eq!([renewed, checked, unchecked], [1, 2, 1], "{query}");

        let user = name("user");
        let (loaded, now) = count(&etcd, registry.load(&user, &options)).await;
        let stale = options.with_consistency(Consistency::Stale);
        let (stale, _) = count(&etcd, registry.load(&user, &stale)).await;
        let (listed, _) = count(&etcd, registry.services(&options)).await;
        let now = now.unwrap();
        let (watched, _watch) = count(&etcd, registry.watch(&user, now.cursor(), &options)).await;
        // A watch creates a watcher, checks its cursor, and reads the current state.
        assert_eq!([loaded, stale, listed, watched], [1, 1, 1, 3], "{query}");

        // `_own` keeps the watch open, since cancelling a watcher is counted, too.
        let (watched, _own) = count(&etcd, registry.watch_record(&successor, &options)).await;
        assert_eq!(watched, 1 + keys as u64, "{query}: expected one read, and one watcher per key");

        // A transaction that marks the record as withdrawn, and the revocation of the lease.
        let (withdrawn, _) = count(&etcd, etcd.deregister(&lease)).await;
        let (repeated, _) = count(&etcd, etcd.deregister(&successor)).await;
        assert_eq!([withdrawn, repeated], [2, 2], "{query}");
    }
}

/// A registry behind a proxy that delays every reply.
struct DelayedRegistry<'a> {
    registry: EtcdRegistry,
    lag: &'a Lag,
    query: &'a str,
    _proxy: Proxy,
}

impl DelayedRegistry<'_> {
    const DELAY: Duration = Duration::from_millis(100);

    /// Asserts that `call` takes as long as this number of sequential round trips.
    async fn takes<T>(&self, round_trips: u32, what: &str, call: impl Future<Output = T>) -> T {
        let limit = Self::DELAY * round_trips + Self::DELAY / 2;
        let (start, deadline) = (Instant::now(), self.lag.deadline(limit));
        let answer = within(call).await;
        let took = start.elapsed();
        assert!(took >= Self::DELAY * round_trips, "{what} took {took:?}, {}", self.query);
        assert!(!deadline.has_passed(), "{what} took {took:?}, {}", self.query);
        answer
    }

    async fn register(
        &self,
        round_trips: u32,
        what: &str,
        instance: &Instance,
        claim: &Claim,
    ) -> Lease {
        let call = self.registry.register(instance, claim, &CallOptions::DEFAULT);
        self.takes(round_trips, what, call).await.unwrap()
    }
}

#[test]
fn each_operation_takes_the_expected_number_of_round_trips() {
    tolerating(Duration::from_secs(1), async |lag| {
        for (query, keys) in LAYOUTS {
            let etcd = Fixture::start_as(query).await;
            let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
            let proxy = Proxy::start(address).await.unwrap();
            let url = format!("etcd://{}{query}", proxy.address()).parse().unwrap();
            let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
            proxy.inject(Fault::DelayReplies { each: DelayedRegistry::DELAY });
            let delayed = DelayedRegistry { registry, lag: &lag, query, _proxy: proxy };
            let (registry, options) = (&delayed.registry, CallOptions::DEFAULT);
            let (user_1, own_claim, user) = (instance("user", "1"), claim(60), name("user"));

            delayed.takes(1, "holder", registry.holder(&user_1, &options)).await.unwrap();
            delayed.register(2, "register", &user_1, &own_claim).await;
            delayed.register(1, "repeat", &user_1, &own_claim).await;
            let (heavy, hidden) = (user_1.clone().with_weight(7), user_1.clone().with_weight(0));
            delayed.register(1, "update", &heavy, &own_claim).await;
            delayed.register(1, "drain", &hidden, &own_claim).await;
            delayed.register(1, "end of draining", &user_1, &own_claim).await;
            let key = if keys == 1 { "registry/user/1" } else { "user/1" };
            etcd.delete(key).await;
            let repair = if keys == 1 { 1 } else { 2 };
            let lease = delayed.register(repair, "repair", &user_1, &own_claim).await;
            etcd.revoke(own_claim.lease().get()).await;
            delayed.takes(1, "renewal", registry.keep_alive(&lease, &options)).await.unwrap_err();
            let lease =
                delayed.register(2, "registration after the loss", &user_1, &own_claim).await;
            let other = claim(60);
            let refused = registry.register(&user_1, &other, &options);
            let refused = delayed.takes(2, "refused claim", refused).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Superseded);
            delayed.takes(1, "renewal", registry.keep_alive(&lease, &options)).await.unwrap();
            let now = delayed.takes(1, "load", registry.load(&user, &options)).await.unwrap();
            delayed.takes(1, "services", registry.services(&options)).await.unwrap();
            let watch = registry.watch(&user, now.cursor(), &options);
            let _watch = delayed.takes(1, "watch", watch).await.unwrap();
            let own = registry.watch_record(&lease, &options);
            let _own = delayed.takes(2, "own-record watch", own).await.unwrap();
            delayed.takes(2, "deregister", registry.deregister(&lease, &options)).await.unwrap();
        }
    });
}

#[tokio::test]
async fn repeated_update_after_a_lost_reply_creates_no_revision() {
    for (query, _) in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(address).await.unwrap();
        let url = format!("etcd://{}{query}", proxy.address()).parse().unwrap();
        let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
        let (own_claim, options) = (claim(60), CallOptions::DEFAULT);
        within(registry.register(&instance("user", "1"), &own_claim, &options)).await.unwrap();
        let moved = instance("user", "1").with_address("10.9.8.7:6543".parse().unwrap());
        let hidden = moved.clone().with_address("10.9.8.6:6543".parse().unwrap()).with_weight(0);
        for update in [&moved, &hidden, &moved] {
            let before = etcd.revision().await;
            proxy.lose_replies_from(update.address().as_str());
            let short = options.with_timeout(Duration::from_millis(500));
            let lost = within(registry.register(update, &own_claim, &short)).await.unwrap_err();
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
                let lease = within(registry.register(update, &own_claim, &options)).await.unwrap();
                assert_eq!(lease.revision().get(), before.unsigned_abs() + 1, "{query}");
            }
            assert_eq!(etcd.revision().await, before + 1, "{query}");
        }
    }
}
