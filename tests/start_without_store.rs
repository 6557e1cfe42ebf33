//! A process starts while its store is down, on real servers. It recovers by itself once the store is back.
#![cfg(all(feature = "etcd", feature = "redis"))]
#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use registry_testbed::servers::{Etcd, Process, Redis, ServerOptions};
use registry_testkit::lag::timeout;
use service_registry::store::Start;
use service_registry::{
    Client, ErrorKind, Instance, Registration, RegistrationOptions, RegistrationStatus, View,
    ViewStatus, connect,
};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// The timeout of each step.
const LIMIT: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("the step hangs")
}

fn node(service: &str, id: &str) -> Instance {
    Instance::from_parts(
        service.parse().unwrap(),
        id.parse().unwrap(),
        "10.0.0.1:8080".parse().unwrap(),
    )
}

fn in_background() -> RegistrationOptions {
    RegistrationOptions::default().with_start(Start::InBackground)
}

fn ids(view: &View) -> Vec<String> {
    view.state().instances().map(|instance| instance.id().to_string()).collect()
}

async fn until_live(view: &mut View) {
    let live = async {
        while !view.status().is_live() {
            view.changed().await.unwrap();
        }
    };
    within(live).await;
}

async fn until_status(
    registration: &Registration,
    is: impl Fn(&RegistrationStatus) -> bool,
) -> RegistrationStatus {
    let mut statuses = registration.statuses();
    within(async {
        loop {
            let status = statuses.next().await.expect("the registration ended");
            if is(&status) {
                return status;
            }
        }
    })
    .await
}

fn is_refused(status: &RegistrationStatus, kind: ErrorKind) -> bool {
    matches!(status, RegistrationStatus::Retrying { why, .. } if why.kind() == kind)
}

/// Waits until a process has written its snapshot of `user.rpc`.
async fn until_written(folder: &Path) {
    let file = folder.join("user%2Erpc.snapshot");
    within(async {
        while !file.exists() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

fn client(url: &str, folder: &Path) -> Client {
    Client::builder(url).snapshots(folder).connect_lazy().unwrap()
}

async fn a_process_starts_while_the_store_is_down(url: &str, server: &mut Process) {
    let folder = TempDir::new().unwrap();
    let owner = within(connect(url)).await.unwrap();
    let user = within(owner.register(node("user.rpc", "node-1"))).await.unwrap();
    {
        let view = client(url, folder.path()).discover("user.rpc").unwrap();
        within(view.ready(LIMIT)).await.unwrap();
        until_written(folder.path()).await;
    }
    server.kill().unwrap();

    let client = client(url, folder.path());
    let mut users = client.discover("user.rpc").unwrap();
    let order = within(client.register_with(node("order.rpc", "node-2"), in_background())).await;
    let order = order.unwrap();
    within(users.ready(Duration::from_secs(1))).await.unwrap();
    assert_eq!(ids(&users), ["node-1"]);
    let ViewStatus::Stale { why, .. } = users.status() else { panic!("{:?}", users.status()) };
    assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
    until_status(&order, |status| is_refused(status, ErrorKind::Unavailable)).await;
    let mut orders = client.discover("order.rpc").unwrap();
    let error = within(orders.ready(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "loaded without a snapshot file");
    let ViewStatus::Loading { why, .. } = orders.status() else { panic!("{:?}", orders.status()) };
    assert_eq!(why.unwrap().kind(), ErrorKind::Unavailable);

    within(server.restart()).await.unwrap();
    until_status(&order, RegistrationStatus::is_active).await;
    until_live(&mut users).await;
    assert_eq!(ids(&users), ["node-1"]);
    until_live(&mut orders).await;
    let listed = async {
        while ids(&orders) != ["node-2"] {
            orders.changed().await.unwrap();
        }
    };
    within(listed).await;
    within(order.stop()).await.unwrap();
    within(user.stop()).await.unwrap();
}

#[tokio::test]
async fn a_process_starts_while_etcd_is_down_and_is_live_once_it_is_up() {
    let mut server = within(Etcd::start()).await.unwrap();
    let url = server.url().to_owned();
    a_process_starts_while_the_store_is_down(&url, server.process().unwrap()).await;
}

#[tokio::test]
async fn a_process_starts_while_redis_is_down_and_is_live_once_it_is_up() {
    let mut server = within(Redis::start()).await.unwrap();
    let url = server.url().to_owned();
    a_process_starts_while_the_store_is_down(&url, server.process().unwrap()).await;
}

/// Asserts that a view and a registration report the refusal of the store at once. Returns both.
async fn assert_refused(url: &str, kind: ErrorKind) -> (View, Registration) {
    let error = within(connect(url)).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    let client = Client::builder(url).connect_lazy().unwrap();
    let view = client.discover("user.rpc").unwrap();
    let error = within(view.ready(10 * LIMIT)).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(view.status().error().unwrap().kind(), kind);
    let registration = within(client.register_with(node("user.rpc", "node-1"), in_background()));
    let registration = registration.await.unwrap();
    until_status(&registration, |status| is_refused(status, kind)).await;
    let error = within(client.register(node("user.rpc", "node-2"))).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    (view, registration)
}

#[tokio::test]
async fn a_redis_that_evicts_keys_is_invalid_at_once_and_used_after_its_correction() {
    let arguments = ["--maxmemory-policy", "allkeys-lru"].map(str::to_owned).to_vec();
    let options = ServerOptions { url: None, arguments, ..Redis::options() };
    let server = within(Redis::start_with(options)).await.unwrap();
    let (mut view, registration) = assert_refused(server.url(), ErrorKind::Invalid).await;
    let corrected = async {
        let mut operator = TcpStream::connect(server.address()).await.unwrap();
        operator.write_all(b"CONFIG SET maxmemory-policy noeviction\r\n").await.unwrap();
        let mut reply = [0; 5];
        operator.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"+OK\r\n");
    };
    within(corrected).await;
    until_status(&registration, RegistrationStatus::is_active).await;
    until_live(&mut view).await;
}

#[tokio::test]
async fn a_wrong_password_of_redis_is_denied_at_once() {
    let arguments = ["--requirepass", "s3cret"].map(str::to_owned).to_vec();
    let options = ServerOptions { url: None, arguments, ..Redis::options() };
    let server = within(Redis::start_with(options)).await.unwrap();
    let url = server.url().replace("redis://", "redis://:wrong@");
    drop(assert_refused(&url, ErrorKind::Denied).await);
}

#[tokio::test]
async fn a_wrong_password_of_etcd_is_denied_at_once() {
    let options = ServerOptions { url: None, ..Etcd::options() };
    let server = within(Etcd::start_with(options)).await.unwrap();
    within(server.enable_auth("registry/")).await.unwrap();
    let url = server.url().replace("etcd://", "etcd://app:wrong@");
    drop(assert_refused(&url, ErrorKind::Denied).await);
}

#[tokio::test]
async fn an_invalid_url_is_refused_without_a_server() {
    for url in ["etcd://h?layout=mine", "redis://h?prefx=a", "mem://host:80", "consul://h", "h"] {
        let error = Client::builder(url).connect_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error:?}");
    }
}

#[cfg(all(feature = "go-zero", feature = "grpc"))]
#[tokio::test]
async fn a_server_and_a_client_of_go_zero_start_while_etcd_is_down() {
    use service_registry::go_zero::{ClientConfig, ServerConfig};

    let mut server = within(Etcd::start()).await.unwrap();
    let host = server.url().strip_prefix("etcd://").unwrap().to_owned();
    server.process().unwrap().kill().unwrap();
    let etcd = format!("Etcd: {{Hosts: ['{host}'], Key: user.rpc}}");
    let yaml = format!("{{Name: user.rpc, ListenOn: '127.0.0.1:8080', {etcd}}}");
    let config = ServerConfig::from_yaml(&yaml).unwrap();
    let bound = "127.0.0.1:8080".parse().unwrap();
    let registration = within(config.register_with(bound, in_background())).await;
    let registration = registration.unwrap().expect("the configuration names no registry");

    let client = ClientConfig::from_yaml(&format!("{{{etcd}}}")).unwrap();
    assert!(client.non_block());
    let channel = within(client.connect()).await.unwrap();
    let blocking = ClientConfig::from_yaml(&format!("{{NonBlock: false, {etcd}}}")).unwrap();
    let error = within(blocking.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    within(server.process().unwrap().restart()).await.unwrap();
    until_status(&registration, RegistrationStatus::is_active).await;
    let view = Client::builder(&format!("etcd://{host}?layout=go-zero")).connect_lazy().unwrap();
    let mut view = view.discover("user.rpc").unwrap();
    until_live(&mut view).await;
    assert_eq!(view.state().instances().len(), 1);
    drop(channel);
}
