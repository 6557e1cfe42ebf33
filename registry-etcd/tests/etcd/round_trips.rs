//! How many requests each operation makes, as the server counts them.

use crate::support::{Fixture, claim, connect_as, instance, name, within};
use registry_core::{CallOptions, Claim, Consistency, Presence, Registry, Takeover};

/// The unary calls so far, and the renewals and new watchers on streams. What the test itself reads of the server is
/// no call of gRPC.
async fn requests(etcd: &Fixture) -> u64 {
    let metrics = etcd.metrics().await;
    let counted = metrics.lines().filter(|line| {
        let is_ours = ["KV\"", "Lease\"", "Watch\""].iter().any(|service| line.contains(service));
        line.starts_with("grpc_server_msg_received_total{") && is_ours
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// How many requests `call` makes.
async fn count<T>(etcd: &Fixture, call: impl Future<Output = T>) -> (u64, T) {
    let before = requests(etcd).await;
    let answer = within(call).await;
    (requests(etcd).await - before, answer)
}

#[tokio::test]
async fn each_operation_makes_as_many_requests_as_documented() {
    for rest in ["", "?layout=go-zero", "?layout=grpc"] {
        let etcd = Fixture::start_as(rest).await;
        let (one, held, options) = (instance("user", "1"), claim(10), CallOptions::DEFAULT);
        let registry = &etcd.registry;
        let register = async |claim: Claim| count(&etcd, etcd.register(&one, &claim)).await;
        let (read_vacant, holder) = count(&etcd, etcd.read_holder(&one)).await;
        assert_eq!((read_vacant, holder), (1, None), "{rest}");
        let (new, lease) = register(held).await;
        let lease = lease.unwrap();
        let (repeated, _) = register(held).await;
        let (updated, _) = count(&etcd, etcd.register(&one.clone().with_weight(7), &held)).await;
        let (drained, _) = count(&etcd, etcd.register(&one.clone().with_weight(0), &held)).await;
        let (back, _) = register(held).await;
        // A public key is put beside its side key once that was read.
        assert_eq!([drained, back], [4, if rest.is_empty() { 4 } else { 5 }], "{rest}");
        let (refused, error) = register(claim(10)).await;
        let (read, holder) = count(&etcd, etcd.read_holder(&one)).await;
        assert_eq!(error.unwrap_err().holder(), holder.as_ref(), "{rest}");
        // A start reads the holder and registers: three round trips in sequence, whether the id is held or vacant.
        let takeover = Takeover::From(holder.unwrap());
        let (taken_over, successor) = register(claim(10).with_takeover(takeover)).await;
        let successor = successor.unwrap();
        assert_eq!([new, repeated, updated, refused], [2, 4, 4, 2], "{rest}");
        assert_eq!([read, taken_over], [1, 2], "{rest}");

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

        // Kept open: to cancel a watcher is a message, too.
        let (watched, _own) = count(&etcd, registry.watch_record(&successor, &options)).await;
        let keys = if rest.is_empty() { 1 } else { 2 };
        assert_eq!(watched, 1 + keys, "{rest}: a watcher for each key");

        let (withdrawn, _) = count(&etcd, etcd.deregister(&lease)).await;
        let (again, _) = count(&etcd, etcd.deregister(&successor)).await;
        assert_eq!([withdrawn, again], [2, 2], "{rest}");
    }
}
