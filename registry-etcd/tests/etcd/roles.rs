//! The minimal permissions to register or to discover: each test removes one.

use crate::support::{Fixture, claim, instance, name, next, put, withdrawn, within};
use etcd_client::Permission;
use registry_core::{CallOptions, ErrorKind, Lease, Registry, Result};
use registry_etcd::EtcdRegistry;

const OPTIONS: CallOptions = CallOptions::DEFAULT;

/// The layouts, each with the range of all keys and the range of the service `user`.
const LAYOUTS: [(&str, [&str; 2], [&str; 2]); 3] = [
    ("", ["registry/", "registry0"], ["registry/user/", "registry/user0"]),
    ("?layout=go-zero", ["\0", "\0"], ["user.~meta/", "user0"]),
    ("/apps?layout=grpc", ["apps/", "apps0"], ["apps/user.~meta/", "apps/user0"]),
];

fn read_write([start, end]: [&str; 2]) -> Permission {
    Permission::read_write(start).with_range_end(end)
}

fn read([start, end]: [&str; 2]) -> Permission {
    Permission::read(start).with_range_end(end)
}

fn write([start, end]: [&str; 2]) -> Permission {
    Permission::write(start).with_range_end(end)
}

/// A server with users, each of which has one permission and the password `pw`.
struct Guarded {
    etcd: Fixture,
    query: &'static str,
}

impl Guarded {
    async fn start(query: &'static str, users: &[(&str, Permission)]) -> Self {
        let etcd = Fixture::start_as(query).await;
        let mut auth = etcd.raw.auth_client();
        for (user, permission) in users {
            within(auth.role_add(*user)).await.unwrap();
            within(auth.role_grant_permission(*user, permission.clone())).await.unwrap();
            within(auth.user_add(*user, "pw", None)).await.unwrap();
            within(auth.user_grant_role(*user, *user)).await.unwrap();
        }
        within(auth.user_add("root", "pw", None)).await.unwrap();
        within(auth.user_grant_role("root", "root")).await.unwrap();
        within(auth.auth_enable()).await.unwrap();
        Self { etcd, query }
    }

    async fn connect(&self, user: &str) -> EtcdRegistry {
        let url = self.etcd.server.url().replace("etcd://", &format!("etcd://{user}:pw@"));
        let url = format!("{url}{}", self.query).parse().unwrap();
        within(EtcdRegistry::connect(&url)).await.expect("a user with any permission connects")
    }
}

async fn register(registry: &EtcdRegistry, service: &str, id: &str) -> Result<Lease> {
    within(registry.register(&instance(service, id), &claim(60), &OPTIONS)).await
}

fn assert_denied<T: std::fmt::Debug>(outcome: Result<T>, what: &str) {
    assert_eq!(outcome.expect_err(what).kind(), ErrorKind::Denied, "{what}");
}

/// Asserts that all operations of a registering service succeed.
async fn assert_owns(registry: &EtcdRegistry, service: &str) {
    let (one, held, service) = (instance(service, "1"), claim(60), name(service));
    assert_eq!(within(registry.holder(&one, &OPTIONS)).await.unwrap(), None);
    let now = within(registry.load(&service, &OPTIONS)).await.unwrap();
    let mut watch = within(registry.watch(&service, now.cursor(), &OPTIONS)).await.unwrap();
    within(registry.register(&one, &held, &OPTIONS)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    let hidden = one.clone().with_weight(0);
    let lease = within(registry.register(&hidden, &held, &OPTIONS)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&hidden)]);
    let _own = within(registry.watch_record(&lease, &OPTIONS)).await.unwrap();
    within(registry.keep_alive(&lease, &OPTIONS)).await.unwrap();
    within(registry.deregister(&lease, &OPTIONS)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [withdrawn("1")]);
}

#[tokio::test]
async fn user_for_all_services_needs_read_and_write_permission() {
    for (query, all, _) in LAYOUTS {
        let users = [("both", read_write(all)), ("reader", read(all)), ("writer", write(all))];
        let guarded = Guarded::start(query, &users).await;
        let both = guarded.connect("both").await;
        assert_owns(&both, "user").await;
        register(&both, "order", "1").await.unwrap();
        let listed = within(both.services(&OPTIONS)).await.unwrap();
        assert_eq!(listed, [name("order")].into(), "{query}");
        assert_denied(register(&guarded.connect("reader").await, "user", "1").await, query);
        let writer = guarded.connect("writer").await;
        assert_denied(register(&writer, "user", "1").await, query);
        assert_denied(within(writer.services(&OPTIONS)).await, query);
        assert_denied(within(writer.load(&name("user"), &OPTIONS)).await, query);
    }
}

/// Regression: connecting failed, since it read a key that only users for all services may read.
#[tokio::test]
async fn user_for_one_service_owns_it_and_nothing_else() {
    for (query, _, service) in LAYOUTS {
        let users =
            [("owner", read_write(service)), ("reader", read(service)), ("writer", write(service))];
        let guarded = Guarded::start(query, &users).await;
        let owner = guarded.connect("owner").await;
        assert_owns(&owner, "user").await;
        assert_denied(register(&owner, "order", "1").await, query);
        assert_denied(within(owner.load(&name("order"), &OPTIONS)).await, query);
        assert_denied(within(owner.services(&OPTIONS)).await, query);
        for without in ["reader", "writer"] {
            assert_denied(register(&guarded.connect(without).await, "user", "1").await, query);
        }
    }
}

#[tokio::test]
async fn reader_of_one_service_discovers_it_and_changes_nothing() {
    for (query, _, service) in LAYOUTS {
        let users =
            [("owner", read_write(service)), ("reader", read(service)), ("writer", write(service))];
        let guarded = Guarded::start(query, &users).await;
        let owner = guarded.connect("owner").await;
        let (reader, user) = (guarded.connect("reader").await, name("user"));
        let one = instance("user", "1");
        let own_claim = claim(60);
        let lease = within(owner.register(&one, &own_claim, &OPTIONS)).await.unwrap();
        let now = within(reader.load(&user, &OPTIONS)).await.unwrap();
        assert_eq!(now.instances().collect::<Vec<_>>(), [&one], "{query}");
        let holder = within(reader.holder(&one, &OPTIONS)).await.unwrap();
        assert_eq!(holder.unwrap().lease(), Some(lease.id()), "{query}");
        let mut watch = within(reader.watch(&user, now.cursor(), &OPTIONS)).await.unwrap();

        // Under its own lease and under the owner's.
        assert_denied(register(&reader, "user", "2").await, query);
        let moved = one.clone().with_weight(7);
        assert_denied(within(reader.register(&moved, &own_claim, &OPTIONS)).await, query);
        assert_denied(within(reader.deregister(&lease, &OPTIONS)).await, query);
        within(owner.keep_alive(&lease, &OPTIONS)).await.expect("nothing was changed");
        within(owner.register(&moved, &own_claim, &OPTIONS)).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [put(&moved)], "{query}");
        // Without read permission, nothing is discovered.
        let writer = guarded.connect("writer").await;
        assert_denied(within(writer.load(&user, &OPTIONS)).await, query);
        assert_denied(within(writer.watch(&user, now.cursor(), &OPTIONS)).await, query);
    }
}

/// The keys of a service are two ranges; the lower one has the side keys.
#[tokio::test]
async fn role_without_the_side_keys_does_not_suffice() {
    let users = [("owner", read_write(["user/", "user0"]))];
    let guarded = Guarded::start("?layout=go-zero", &users).await;
    let owner = guarded.connect("owner").await;
    assert_denied(register(&owner, "user", "1").await, "registers");
    assert_denied(within(owner.load(&name("user"), &OPTIONS)).await, "loads");
}
