//! Users, passwords, and tokens that expire.

use crate::support::{Fixture, claim, deleted, instance, name, next, put, withdrawn, within};
use etcd_client::{Client, ConnectOptions};
use registry_core::{CallOptions, ErrorKind, Registry, Result};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testbed::Trace;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::{Etcd, EtcdTokens, ServerOptions};
use registry_testkit::lag::tolerating;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// How long an unused token lives on the servers of these tests, in seconds.
const TOKEN_TTL: u64 = 2;

/// A server that requires credentials, with the users `root`, and `app`, which has all permissions under
/// `registry/`.
struct Guarded {
    etcd: Fixture,
    root: Box<Client>,
}

impl Guarded {
    async fn start() -> Self {
        let arguments = vec![format!("--auth-token-ttl={TOKEN_TTL}")];
        let options = ServerOptions { url: None, arguments, ..Etcd::options() };
        let etcd = Fixture::over(within(Etcd::start_with(options)).await.unwrap(), "").await;
        let mut auth = etcd.raw.auth_client();
        within(auth.user_add("root", "s3cret", None)).await.unwrap();
        within(auth.user_grant_role("root", "root")).await.unwrap();
        within(auth.role_add("app")).await.unwrap();
        let all = etcd_client::Permission::read_write("registry/").with_prefix();
        within(auth.role_grant_permission("app", all)).await.unwrap();
        within(auth.user_add("app", "pass word", None)).await.unwrap();
        within(auth.user_grant_role("app", "app")).await.unwrap();
        within(auth.auth_enable()).await.unwrap();
        let root = ConnectOptions::new().with_user("root", "s3cret").with_auto_token_refresh(true);
        let root = Client::connect([etcd.server.endpoint()], Some(root));
        let root = Box::new(within(Box::pin(root)).await.unwrap());
        Self { etcd, root }
    }

    async fn connect(&self, credentials: &str) -> Result<EtcdRegistry> {
        let url = self.etcd.server.url().replace("etcd://", &format!("etcd://{credentials}@"));
        within(EtcdRegistry::connect(&url.parse().unwrap())).await
    }

    /// Returns the number of login requests so far.
    async fn authentications(&self) -> u64 {
        self.etcd
            .metric("grpc_server_started_total{grpc_method=\"Authenticate\",grpc_service=\"etcdserverpb.Auth\",grpc_type=\"unary\"}")
            .await
    }

    /// Waits until every token has expired. A token lives on while it is used.
    async fn wait_until_tokens_expire() {
        sleep(Duration::from_secs(TOKEN_TTL + 2)).await;
    }
}

#[tokio::test]
async fn only_the_right_password_is_accepted() {
    let guarded = Guarded::start().await;
    let registry = guarded.connect("app:pass%20word").await.unwrap();
    let one = instance("user", "1");
    let lease = within(registry.register(&one, &claim(10), &CallOptions::DEFAULT)).await.unwrap();
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(
        within(registry.load(&name("user"), &CallOptions::DEFAULT))
            .await
            .unwrap()
            .records()
            .find("1")
            .map(registry_core::Record::instance),
        Some(&one)
    );
    assert_eq!(within(registry.services(&CallOptions::DEFAULT)).await.unwrap().len(), 1);
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();

    for wrong in ["app:pass", "nobody:pass%20word", "root:"] {
        let before = guarded.authentications().await;
        let error = guarded.connect(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{wrong}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("pass word"));
        assert_eq!(guarded.authentications().await, before + 1, "one login request");
    }
}

#[tokio::test]
async fn user_without_permission_for_the_prefix_is_denied() {
    let guarded = Guarded::start().await;
    let url = guarded.etcd.server.url().replace("etcd://", "etcd://app:pass%20word@");
    let url = format!("{url}/elsewhere").parse().unwrap();
    // The user may have permissions for some services, so only calls for them can find out.
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
    let error = within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn permission_for_one_service_suffices_to_connect_with_go_zero() {
    let guarded = Guarded::start().await;
    let mut auth = guarded.root.auth_client();
    // The range of both of its keys: `0` is the byte after `/`.
    let all = etcd_client::Permission::read_write("user.rpc.~meta/").with_range_end("user.rpc0");
    within(auth.role_grant_permission("app", all)).await.unwrap();
    let url = guarded.etcd.server.url().replace("etcd://", "etcd://app:pass%20word@");
    let url = format!("{url}?layout=go-zero").parse().unwrap();
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
    let one = instance("user.rpc", "7");
    within(registry.register(&one, &claim(10), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(
        within(registry.load(&name("user.rpc"), &CallOptions::DEFAULT))
            .await
            .unwrap()
            .instances()
            .len(),
        1
    );
    let error = within(registry.load(&name("order.rpc"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn connect_skips_a_member_silent_on_authentication() {
    let guarded = Guarded::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let url = guarded.etcd.server.url().replace("etcd://", "");
    let target = format!("etcd://app:pass%20word@{silent},{url}").parse().unwrap();
    let request_timeout = Duration::from_millis(500);
    let options = EtcdOptions { request_timeout, ..EtcdOptions::default() };
    // The first member is random.
    for _ in 0..6 {
        let registry = within(EtcdRegistry::connect_with(&target, options.clone())).await.unwrap();
        within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
    }
}

#[tokio::test]
async fn expired_token_is_replaced_for_calls_and_watches() {
    let guarded = Guarded::start().await;
    let registry = guarded.connect("app:pass%20word").await.unwrap();
    let (one, two, user) = (instance("user", "1"), instance("user", "2"), name("user"));
    let lease = within(registry.register(&one, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let mut watch =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();

    // A new watch on the open stream, whose token has expired.
    Guarded::wait_until_tokens_expire().await;
    let mut second =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    // Each kind of call.
    Guarded::wait_until_tokens_expire().await;
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    Guarded::wait_until_tokens_expire().await;
    let other = within(registry.register(&two, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
    // The open watches continue.
    for watch in [&mut watch, &mut second] {
        assert_eq!(next(watch).await.changes, [put(&two)]);
    }
    Guarded::wait_until_tokens_expire().await;
    within(registry.deregister(&other, &CallOptions::DEFAULT)).await.unwrap();
    Guarded::wait_until_tokens_expire().await;
    assert_eq!(
        within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap().instances().len(),
        1
    );
    for watch in [&mut watch, &mut second] {
        assert_eq!(next(watch).await.changes, [withdrawn("2")]);
    }
}

#[tokio::test]
async fn concurrent_calls_replace_an_expired_token_once() {
    let guarded = Guarded::start().await;
    let registry = guarded.connect("app:pass%20word").await.unwrap();
    Guarded::wait_until_tokens_expire().await;
    let before = guarded.authentications().await;
    let (registry, user) = (&registry, name("user"));
    let loads = (0..20).map(|_| registry.load(&user, &CallOptions::DEFAULT));
    for loaded in within(futures_util::future::join_all(loads)).await {
        loaded.unwrap();
    }
    assert_eq!(guarded.authentications().await, before + 1);
}

#[tokio::test]
async fn changed_password_is_denied_without_endless_retries() {
    let guarded = Guarded::start().await;
    let registry = guarded.connect("app:pass%20word").await.unwrap();
    let user = name("user");
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let mut auth = guarded.root.auth_client();
    within(auth.user_change_password("app", "another")).await.unwrap();
    Guarded::wait_until_tokens_expire().await;
    let before = guarded.authentications().await;
    let error = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(guarded.authentications().await, before + 1);
    let error =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    // The client logs in with its password again once that is valid.
    within(auth.user_change_password("app", "pass word")).await.unwrap();
    within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn invalid_jwt_tokens_are_replaced() {
    let options =
        ServerOptions { url: None, arguments: EtcdTokens::Jwt.arguments(), ..Etcd::options() };
    let etcd = within(Etcd::start_with(options)).await.unwrap();
    within(etcd.enable_auth("registry/")).await.unwrap();
    let url = etcd.url().replace("etcd://", &format!("etcd://app:{}@", Etcd::PASSWORD));
    let registry = within(EtcdRegistry::connect(&url.parse().unwrap())).await.unwrap();
    let (one, user) = (instance("user", "1"), name("user"));
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let mut watch =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();

    // JWT tokens expire even while they are used.
    Guarded::wait_until_tokens_expire().await;
    let lease = within(registry.register(&one, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    // A change of users invalidates them: "revision of auth store is old".
    let root = ConnectOptions::new().with_user("root", Etcd::PASSWORD);
    let root =
        Box::new(within(Box::pin(Client::connect([etcd.endpoint()], Some(root)))).await.unwrap());
    within(root.auth_client().user_add("another", "pw", None)).await.unwrap();
    let old = within(root.kv_client().get("registry/", None)).await.unwrap_err();
    assert!(old.to_string().contains("revision of auth store is old"), "{old}");
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [withdrawn("1")], "the open watch continues");
}

/// A user with only write permission cannot compare, but may revoke.
#[tokio::test]
async fn withdrawal_whose_first_step_is_refused_deletes_without_a_reason() {
    let guarded = Guarded::start().await;
    let mut auth = guarded.root.auth_client();
    within(auth.role_add("writer")).await.unwrap();
    let write_only = etcd_client::Permission::write("user.~meta/").with_range_end("user0");
    within(auth.role_grant_permission("writer", write_only)).await.unwrap();
    within(auth.user_add("writer", "s3cret", None)).await.unwrap();
    within(auth.user_grant_role("writer", "writer")).await.unwrap();
    let connect = async |user: &str| {
        let url = guarded.etcd.server.url().replace("etcd://", &format!("etcd://{user}:s3cret@"));
        let url = format!("{url}?layout=go-zero").parse().unwrap();
        within(EtcdRegistry::connect(&url)).await.unwrap()
    };
    let (root, writer, options) =
        (connect("root").await, connect("writer").await, CallOptions::DEFAULT);
    let one = instance("user", "1");
    let lease = within(root.register(&one, &claim(60), &options)).await.unwrap();
    let now = within(root.load(&name("user"), &options)).await.unwrap();
    let mut watch = within(root.watch(&name("user"), now.cursor(), &options)).await.unwrap();

    let refused = within(writer.load(&name("user"), &options)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "the user may not read");
    within(writer.deregister(&lease, &options)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [deleted("1")]);
    let lost = within(root.keep_alive(&lease, &options)).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LeaseLost);
}

/// The libraries below log, too.
#[tokio::test]
async fn no_log_of_a_login_contains_a_password_or_a_token() {
    let trace = Trace::capture();
    let guarded = Guarded::start().await;
    let registry = guarded.connect("app:pass%20word").await.unwrap();
    let (one, user, options) = (instance("user", "1"), name("user"), CallOptions::DEFAULT);
    let lease = within(registry.register(&one, &claim(60), &options)).await.unwrap();
    let now = within(registry.load(&user, &options)).await.unwrap();
    let _watch = within(registry.watch(&user, now.cursor(), &options)).await.unwrap();
    guarded.connect("app:wr%2Fong").await.unwrap_err();
    Guarded::wait_until_tokens_expire().await;
    within(registry.keep_alive(&lease, &options)).await.unwrap();

    let text = trace.text();
    assert!(text.contains("h2::"), "the HTTP/2 connection is traced");
    for secret in ["pass word", "pass%20word", "pass+word", "wr/ong", "wr%2Fong", "s3cret"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // etcd's simple tokens have 16 letters, a dot and a number.
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let is_token = |word: &&str| {
        let (letters, number) = word.split_once('.').unwrap_or_default();
        letters.len() == 16
            && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    assert_eq!(words.into_iter().find(is_token), None);
}

/// All calls that wait on a silent connection share one probe of whether the member is alive.
#[test]
fn member_of_a_silent_connection_is_probed_without_a_login() {
    const READS: &str = "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    // An attempt of the probe times out after 500 ms, and another one follows.
    tolerating(Duration::from_millis(400), async |_| {
        let guarded = Guarded::start().await;
        let server = guarded.etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(server).await.unwrap();
        let url = format!("etcd://app:pass%20word@{}", proxy.address()).parse().unwrap();
        let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
        // An empty service would be looked for in other layouts, by one more read.
        let (user, options) = (name("user"), CallOptions::DEFAULT);
        within(registry.register(&instance("user", "1"), &claim(60), &options)).await.unwrap();
        within(registry.load(&user, &options)).await.unwrap();
        let before = (guarded.etcd.metric(READS).await, guarded.authentications().await);
        proxy.strand();
        let loads = (0..20).map(|_| registry.load(&user, &CallOptions::DEFAULT));
        for loaded in within(futures_util::future::join_all(loads)).await {
            assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert!(proxy.hits().stranded >= 1);
        let after = (guarded.etcd.metric(READS).await, guarded.authentications().await);
        assert_eq!(after, (before.0 + 1, before.1), "one refused read");
    });
}
