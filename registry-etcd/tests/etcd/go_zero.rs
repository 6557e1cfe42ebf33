//! Interoperation with a go-zero fleet, simulated by the operations that go-zero makes on etcd.

use crate::support::{Fixture, claim, connect_as, deleted, instance, name, next, put, within};
use futures_util::StreamExt;
use futures_util::future::ready;
use registry_core::{CallOptions, Claim, ErrorKind, Instance, LeaseId, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Update};
use registry_testkit::lag::tolerating;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

const GO_ZERO: &str = "?layout=go-zero";

async fn start() -> Fixture {
    Fixture::start_as(GO_ZERO).await
}

fn at(id: &str, address: &str) -> Instance {
    instance("user.rpc", id).with_address(address.parse().unwrap())
}

/// Publishes as go-zero's `core/discov` does: under a lease that the server chooses, with an unconditional
/// put. Returns the lease and the id.
async fn publish(etcd: &Fixture, id: Option<i64>, address: &str) -> (i64, String) {
    let lease = etcd.grant(10).await;
    let id = id.unwrap_or(lease).to_string();
    etcd.put_under(lease, &format!("user.rpc/{id}"), address).await;
    (lease, id)
}

/// Returns the keys and values that a Go subscriber lists.
async fn list_as_go_zero(etcd: &Fixture) -> Vec<(String, String)> {
    etcd.range("user.rpc/", "user.rpc0").await
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[tokio::test]
async fn register_writes_one_key_like_a_go_publisher() {
    let etcd = start().await;
    let claim = claim(10);
    let id = claim.lease().to_string();
    let one = at(&id, "192.168.1.5:8081");
    let lease = etcd.register(&one, &claim).await.unwrap();

    let key = format!("user.rpc/{id}");
    assert_eq!(list_as_go_zero(&etcd).await, [pair(&key, "192.168.1.5:8081")]);
    let stored = etcd.stored(&key).await.unwrap();
    assert_eq!((stored.lease().to_string(), stored.version()), (id, 1));
    assert_eq!(stored.mod_revision().cast_unsigned(), lease.revision().get());
    let ttl = within(etcd.raw.lease_client().time_to_live(stored.lease(), None)).await.unwrap();
    assert_eq!(ttl.granted_ttl(), 10);
    assert_eq!(etcd.range("\0", "\0").await.len(), 2, "and its side key");
}

/// Regression: every put updated the view. A program that repeats its put woke all callers each time, unlike in
/// go-zero.
#[tokio::test]
async fn put_of_the_same_value_does_not_update_a_view() {
    let etcd = start().await;
    let (lease, first) = publish(&etcd, None, "192.168.1.5:8081").await;
    let discovery = Discovery::new(Arc::new(etcd.registry.clone()), DiscoveryOptions::default());
    let view = discovery.view(&name("user.rpc"));
    let is_change = |update: &Update| ready(!matches!(update, Update::Status(_)));
    let mut updates = view.updates().filter(is_change);
    let Some(Update::Reset(_)) = within(updates.next()).await else { panic!("a reset") };
    let put_again = async || {
        etcd.put_under(lease, &format!("user.rpc/{first}"), "192.168.1.5:8081").await;
    };
    put_again().await;
    put_again().await;
    let (_, second) = publish(&etcd, None, "192.168.1.6:8081").await;
    let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!("a batch") };
    let put: Vec<_> = batch.changes.iter().map(|change| change.id().to_string()).collect();
    assert_eq!(put, [second]);
    let another_lease = etcd.grant(10).await;
    etcd.put_under(another_lease, &format!("user.rpc/{first}"), "192.168.1.5:8081").await;
    let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!("a batch") };
    assert_eq!(batch.changes[0].id().to_string(), first, "its publisher restarted");
}

#[tokio::test]
async fn etcdctl_shows_the_bytes_of_go_zero_and_puts_what_we_list() {
    let etcd = start().await;
    etcd.register(&at("7", "192.168.1.5:8081"), &claim(10)).await.unwrap();
    let shown = etcdctl(&etcd, &["get", "user.rpc/", "--prefix"]).await;
    assert_eq!(shown, "user.rpc/7\n192.168.1.5:8081\n");
    let hex =
        etcdctl(&etcd, &["get", "user.rpc/", "--prefix", "--hex", "--print-value-only"]).await;
    let bytes = "31 39 32 2e 31 36 38 2e 31 2e 35 3a 38 30 38 31";
    assert_eq!(hex.trim(), format!("\\x{}", bytes.replace(' ', "\\x")));

    etcdctl(&etcd, &["put", "user.rpc/abc", "10.0.0.1:80"]).await;
    assert_eq!(
        etcd.load("user.rpc").await.records().find("abc").map(registry_core::Record::instance),
        Some(&at("abc", "10.0.0.1:80"))
    );
    assert_eq!(etcdctl(&etcd, &["del", "user.rpc/", "--prefix"]).await, "2\n");
    assert!(etcd.load("user.rpc").await.records().is_empty());
}

#[test]
fn killed_publisher_expires_a_ttl_after_its_last_renewal() {
    tolerating(Duration::from_secs(1), async |lag| {
        const TTL: Duration = Duration::from_secs(3);
        let etcd = start().await;
        let lease = etcd.grant(3).await;
        etcd.put_under(lease, &format!("user.rpc/{lease}"), "10.0.0.1:80").await;
        let mut watch = etcd.watch("user.rpc").await;
        let mut publisher = Publisher::start(&etcd, lease);
        // etcdctl prints a line for each renewal, three per ttl.
        let renewals = BufReader::new(publisher.0.stdout.take().unwrap());
        let renewed = spawn_blocking(|| renewals.lines().take(6).map(Result::unwrap).collect());
        let renewed: Vec<String> = within(renewed).await.unwrap();
        let last_renewal = Instant::now();
        let expiry = lag.deadline(TTL + Duration::from_millis(1500));
        drop(publisher);
        assert!(renewed.iter().all(|line| line.contains("keepalived")), "{renewed:?}");
        assert_eq!(etcd.load("user.rpc").await.instances().len(), 1, "it outlived its first ttl");

        assert_eq!(next(&mut watch).await.changes, [deleted(&lease.to_string())]);
        let gone_after = last_renewal.elapsed();
        // The line is printed some milliseconds after the renewal, and etcd checks for expiry twice a second.
        let early = TTL.saturating_sub(gone_after);
        assert!(early < Duration::from_millis(500), "{gone_after:?}");
        expiry.assert_met();
        assert!(etcd.leases().await.is_empty());
    });
}

/// An etcdctl process that renews a lease. Dropping it kills it (SIGKILL), so that no test leaves one behind.
struct Publisher(Child);

impl Publisher {
    fn start(etcd: &Fixture, lease: i64) -> Self {
        let child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &etcd.server.endpoint()])
            .args(["lease", "keep-alive", &format!("{lease:x}")])
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("etcdctl is on PATH; Debian has it in etcd-client"))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the child process can be killed");
    }
}

/// Returns the output of etcdctl.
async fn etcdctl(etcd: &Fixture, arguments: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.server.endpoint()]);
    command.args(["--command-timeout", "10s"]).args(arguments);
    let output = within(spawn_blocking(move || command.output())).await.unwrap();
    let output = output.expect("etcdctl is on PATH; Debian has it in etcd-client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn restart_under_a_configured_id_survives_the_old_revoke() {
    let etcd = start().await;
    let old = claim(10);
    let lease = etcd.register(&at("7", "10.0.0.1:80"), &old).await.unwrap();
    let mut watch = etcd.watch("user.rpc").await;
    let (new, _) = publish(&etcd, Some(7), "10.0.0.2:80").await;
    etcd.deregister(&lease).await.unwrap();
    assert_eq!(list_as_go_zero(&etcd).await, [pair("user.rpc/7", "10.0.0.2:80")]);

    let ours = claim(10);
    let moved = at("7", "10.0.0.3:80");
    etcd.take_over(&moved, &ours).await.unwrap();
    assert!(etcd.leases().await.contains(&new), "only its owner may revoke it");
    assert_eq!(list_as_go_zero(&etcd).await, [pair("user.rpc/7", "10.0.0.3:80")]);
    // The watch never shows an empty service.
    assert_eq!(next(&mut watch).await.changes, [put(&at("7", "10.0.0.2:80"))]);
    assert_eq!(next(&mut watch).await.changes, [put(&moved)]);
}

#[tokio::test]
async fn id_held_by_a_go_publisher_requires_a_takeover() {
    let etcd = start().await;
    let (lease, id) = publish(&etcd, None, "10.0.0.1:80").await;
    let outcome = etcd.register(&at(&id, "10.0.0.2:80"), &claim(10)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Superseded);
    assert_eq!(list_as_go_zero(&etcd).await, [pair(&format!("user.rpc/{id}"), "10.0.0.1:80")]);
    assert!(etcd.leases().await.contains(&lease));
}

#[tokio::test]
async fn only_direct_children_are_listed() {
    let etcd = start().await;
    etcd.put("user.rpc/abc", "10.0.0.1:80").await;
    let (_, id) = publish(&etcd, None, "10.0.0.2:80").await;
    for foreign in ["user.rpc2/1", "user.rpc", "user.rpc/x/1", "user.rpc/", "user.rpc.~x/1"] {
        etcd.put(foreign, "10.0.0.9:80").await;
    }
    etcd.put("user.rpc/bad", "{\"addr\":1}").await;
    let found = etcd.load("user.rpc").await;
    let expected = [at(&id, "10.0.0.2:80"), at("abc", "10.0.0.1:80")];
    assert_eq!(found.instances().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(found.undecodable(), 1);
    let nested = instance("user.rpc/x", "1").with_address("10.0.0.9:80".parse().unwrap());
    assert_eq!(
        etcd.load("user.rpc/x").await.records().find("1").map(registry_core::Record::instance),
        Some(&nested)
    );
    etcd.watch_after("user.rpc", found.cursor()).await.unwrap();
}

/// go-zero's readers merge keys with equal values into one endpoint. Here the balancer does that.
#[tokio::test]
async fn two_keys_with_one_value_are_two_instances() {
    let etcd = start().await;
    let mut watch = etcd.watch("user.rpc").await;
    let (_, first) = publish(&etcd, None, "10.0.0.1:80").await;
    let (second_lease, second) = publish(&etcd, None, "10.0.0.1:80").await;
    for id in [&first, &second] {
        assert_eq!(next(&mut watch).await.changes, [put(&at(id, "10.0.0.1:80"))]);
    }
    etcd.delete(&format!("user.rpc/{first}")).await;
    assert_eq!(next(&mut watch).await.changes, [deleted(&first)]);
    assert_eq!(etcd.load("user.rpc").await.instances().len(), 1);
    etcd.revoke(second_lease).await;
    assert_eq!(next(&mut watch).await.changes, [deleted(&second)]);
    assert!(etcd.load("user.rpc").await.records().is_empty());
}

#[tokio::test]
async fn new_value_under_a_key_is_one_change() {
    let etcd = start().await;
    let (lease, id) = publish(&etcd, None, "10.0.0.1:80").await;
    let mut watch = etcd.watch("user.rpc").await;
    etcd.put_under(lease, &format!("user.rpc/{id}"), "10.0.0.2:80").await;
    assert_eq!(next(&mut watch).await.changes, [put(&at(&id, "10.0.0.2:80"))]);
}

#[tokio::test]
async fn deleted_or_revoked_key_is_detected_and_registered_again() {
    let etcd = start().await;
    let (one, first) = (at("7", "10.0.0.1:80"), claim(10));
    let lease = etcd.register(&one, &first).await.unwrap();
    etcd.delete("user.rpc/7").await;
    // Another registry does not know the lease, so it checks at once.
    let other = connect_as(&etcd.server, GO_ZERO).await;
    let error = within(other.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    etcd.register(&one, &first).await.unwrap();
    assert_eq!(etcd.stored("user.rpc/7").await.unwrap().lease(), first.lease().get());

    etcd.revoke(first.lease().get()).await;
    assert_eq!(etcd.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let second = claim(10);
    etcd.register(&one, &second).await.unwrap();
    assert_eq!(etcd.stored("user.rpc/7").await.unwrap().lease(), second.lease().get());
    assert_eq!(list_as_go_zero(&etcd).await.len(), 1);
}

#[tokio::test]
async fn deregister_leaves_no_key_and_no_lease() {
    let etcd = start().await;
    let lease = etcd.register(&at("7", "10.0.0.1:80").with_weight(7), &claim(10)).await.unwrap();
    assert_eq!(etcd.range("\0", "\0").await.len(), 2);
    etcd.deregister(&lease).await.unwrap();
    assert_eq!(etcd.range("\0", "\0").await, []);
    assert!(etcd.leases().await.is_empty());
}

#[tokio::test]
async fn inexpressible_instance_is_invalid_before_any_request() {
    let etcd = start().await;
    let before = etcd.revision().await;
    let side = instance("user.rpc.~meta", "7");
    for bad in [at("abc", "h:1"), at("0", "h:1"), at("9223372036854775808", "h:1"), side] {
        let error = etcd.register(&bad, &claim(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
    }
    let error =
        within(etcd.registry.load(&name("a.~meta"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let now = etcd.load("a").await;
    assert_eq!(etcd.watch_error("a.~meta", now.cursor()).await, ErrorKind::Invalid);
    assert_eq!((etcd.revision().await, etcd.leases().await), (before, vec![]));
}

#[tokio::test]
async fn service_list_has_every_name_with_a_key_or_a_side_key() {
    let etcd = start().await;
    publish(&etcd, None, "10.0.0.1:80").await;
    for name in ["prod/order.rpc", "a"] {
        etcd.register(&instance(name, "7").with_weight(7), &claim(10)).await.unwrap();
    }
    etcd.put("b.~meta/7", "no value is read").await;
    etcd.put("config", "no key of a service").await;
    etcd.put("/leading/7", "10.0.0.1:80").await;
    let listed = within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, ["a", "b", "prod/order.rpc", "user.rpc"].map(name).into());
}

#[tokio::test]
async fn path_of_the_url_prefixes_every_key() {
    let etcd = Fixture::start_as("/prod?layout=go-zero").await;
    let one = at("7", "10.0.0.1:80").with_weight(7);
    etcd.register(&one, &claim(10)).await.unwrap();
    etcd.put("user.rpc/8", "10.0.0.2:80").await;
    assert_eq!(etcd.load("user.rpc").await.instances().collect::<Vec<_>>(), [&one]);
    let keys = etcd.range("prod/", "prod0").await;
    let keys: Vec<_> = keys.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["prod/user.rpc.~meta/7", "prod/user.rpc/7"]);
    assert_eq!(
        within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap(),
        [name("user.rpc")].into()
    );

    let whole = connect_as(&etcd.server, GO_ZERO).await;
    let found = within(whole.load(&name("prod/user.rpc"), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(found.instances().len(), 1, "to go-zero the path is part of the key");
    let error = within(whole.watch(
        &name("user.rpc"),
        etcd.load("user.rpc").await.cursor(),
        &CallOptions::DEFAULT,
    ))
    .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid, "a cursor is valid for one path");
}

#[tokio::test]
async fn key_with_a_leading_slash_is_shared_both_ways() {
    let etcd = Fixture::start_as("//?layout=go-zero").await;
    let theirs = instance("grpc/svc", "1").with_address("10.0.0.1:80".parse().unwrap());
    etcd.put("/grpc/svc/1", "10.0.0.1:80").await;
    etcd.put("grpc/svc/2", "10.0.0.2:80").await;
    let found = etcd.load("grpc/svc").await;
    assert_eq!(found.instances().collect::<Vec<_>>(), [&theirs]);
    assert_eq!(
        within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap(),
        [name("grpc/svc")].into()
    );

    let mut watch = etcd.watch_after("grpc/svc", found.cursor()).await.unwrap();
    let ours = instance("grpc/svc", "7").with_address("10.0.0.7:80".parse().unwrap());
    etcd.register(&ours, &claim(10)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&ours)]);
    let expected = [pair("/grpc/svc/1", "10.0.0.1:80"), pair("/grpc/svc/7", "10.0.0.7:80")];
    assert_eq!(etcd.range("/grpc/svc/", "/grpc/svc0").await, expected);
}

/// A Go publisher uses its lease as id, and etcd draws leases from all positive `i64` values.
#[tokio::test]
async fn largest_lease_id_is_a_valid_id() {
    let etcd = start().await;
    let claim = Claim::new(Duration::from_secs(10)).unwrap();
    let claim = claim.with_lease(LeaseId::new(i64::MAX).unwrap());
    let one = at(&i64::MAX.to_string(), "10.0.0.1:80");
    etcd.register(&one, &claim).await.unwrap();
    assert_eq!(list_as_go_zero(&etcd).await, [pair("user.rpc/9223372036854775807", "10.0.0.1:80")]);
}
