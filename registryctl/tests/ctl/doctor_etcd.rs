//! `doctor` on etcd.

use crate::support::{Ended, SERVICE, instance, load, register, registry, run, within};
use etcd_client::{AlarmAction, AlarmType, Client, ConnectOptions, Permission, PutOptions};
use registry_testbed::servers::{Etcd, EtcdCluster, EtcdTokens, ServerOptions};
use service_registry::store::CallOptions;

struct Patient {
    server: Etcd,
    raw: Box<Client>,
}

impl Patient {
    async fn new() -> Self {
        let server = within(Etcd::start()).await.expect("a server");
        let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
        Self { server, raw: Box::new(raw) }
    }

    async fn put(&self, key: &str, value: &str) {
        within(self.raw.kv_client().put(key, value, None)).await.unwrap();
    }

    /// Puts a key with a lease, as a registry does.
    async fn put_leased(&self, key: &str, value: &str) {
        let lease = within(self.raw.lease_client().grant(600, None)).await.unwrap().id();
        let options = Some(PutOptions::new().with_lease(lease));
        within(self.raw.kv_client().put(key, value, options)).await.unwrap();
    }

    /// Runs `doctor` on the URL of the server with `rest` appended.
    async fn examine(&self, rest: &str) -> Ended {
        examine(&format!("{}{rest}", self.server.url())).await
    }
}

async fn examine(url: &str) -> Ended {
    run(url, &["doctor", "--json"]).await
}

const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;

#[tokio::test]
async fn a_healthy_store_has_no_error_and_nothing_is_left_behind() {
    let patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    let ended = patient.examine("").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.json().iter().all(|one| one["level"] != "error"), "{ended:?}");
    for check in ["answer", "register", "members", "space", "history", "layout", "clock"] {
        ended.finding("ok", check);
    }
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
    assert_eq!(
        within(registry.services(&CallOptions::DEFAULT)).await.unwrap().len(),
        1,
        "`~doctor` is gone"
    );
    let release = patient.server.release().await.unwrap();
    assert!(format!("{ended:?}").contains(&format!("etcd {release}")), "{ended:?}");
}

#[tokio::test]
async fn without_json_the_findings_are_a_table() {
    let patient = Patient::new().await;
    let ended = run(patient.server.url(), &["doctor"]).await;
    assert!(ended.out[0].starts_with("LEVEL"), "{ended:?}");
    assert!(ended.out.iter().any(|line| line.starts_with("ok ")), "{ended:?}");
}

#[tokio::test]
async fn undecodable_and_unexpiring_records_are_named() {
    let patient = Patient::new().await;
    patient.put_leased("registry/user.rpc/1", "{").await;
    patient.put_leased("registry/user.rpc/2", RECORD).await;
    patient.put("registry/user.rpc/3", RECORD).await;
    let ended = patient.examine("").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let unreadable = ended.finding("warning", "records");
    assert!(unreadable.contains("registry/user.rpc/1") && unreadable.contains("etcdctl del"));
    assert!(!unreadable.contains("user.rpc/2"), "{unreadable}");
    let leaseless = ended.finding("warning", "leases");
    assert!(leaseless.contains("registry/user.rpc/3"), "{leaseless}");
    assert!(!leaseless.contains("user.rpc/2"), "{leaseless}");
}

#[tokio::test]
async fn a_side_key_of_go_zero_that_cannot_be_decoded_is_named() {
    let patient = Patient::new().await;
    patient.put("user.rpc/7", "10.0.0.1:80").await;
    patient.put("user.rpc.~meta/7", "{").await;
    let ended = patient.examine("?layout=go-zero").await;
    let unreadable = ended.finding("warning", "records");
    assert!(unreadable.contains("user.rpc.~meta/7"), "{unreadable}");
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
}

#[tokio::test]
async fn records_in_another_layout_are_reported_with_the_url_that_reads_them() {
    let patient = Patient::new().await;
    patient.put_leased("prod/user.rpc/7", "10.0.0.1:80").await;
    patient.put_leased("grpc/user.rpc/a", r#"{"Op":0,"Addr":"10.0.0.1:80"}"#).await;
    patient.put_leased("ours/user.rpc/a", RECORD).await;

    let ended = patient.examine("/prod").await;
    assert_eq!(ended.code, 1);
    assert!(ended.finding("error", "layout").contains("?layout=go-zero"), "{ended:?}");
    let ended = patient.examine("/grpc?layout=go-zero").await;
    assert!(ended.finding("error", "layout").contains("?layout=grpc"), "{ended:?}");
    let ended = patient.examine("/ours?layout=go-zero").await;
    assert!(ended.finding("error", "layout").contains("remove `layout`"), "{ended:?}");

    // The default prefix has no records.
    let elsewhere = patient.examine("").await.finding("warning", "layout");
    assert!(elsewhere.contains("prod/user.rpc/7"), "{elsewhere}");
    for (rest, layout) in
        [("/prod?layout=go-zero", "go-zero"), ("/grpc?layout=grpc", "grpc"), ("/ours", "native")]
    {
        let ended = patient.examine(rest).await;
        assert!(ended.finding("ok", "layout").contains(layout), "{ended:?}");
    }
}

#[tokio::test]
async fn the_compacted_revision_is_reported() {
    let patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    let lease = register(&*registry, &instance("1")).await;
    let revision = lease.revision().get();
    within(patient.raw.kv_client().compact(revision.cast_signed(), None)).await.unwrap();
    let history = patient.examine("").await.finding("ok", "history");
    assert!(history.contains(&format!("compacted up to revision {revision}")), "{history}");
}

#[tokio::test]
async fn an_alarm_is_an_error() {
    let patient = Patient::new().await;
    let mut maintenance = patient.raw.maintenance_client();
    let raised = maintenance.alarm(AlarmAction::Activate, AlarmType::Nospace, None);
    within(raised).await.unwrap();
    let ended = patient.examine("").await;
    assert_eq!(ended.code, 1);
    let alarm = ended.finding("error", "alarm");
    assert!(alarm.contains("NOSPACE") && alarm.contains("alarm disarm"), "{alarm}");
    ended.finding("error", "register");
}

#[tokio::test]
async fn wrong_and_read_only_credentials_are_distinguished() {
    let options =
        ServerOptions { url: None, arguments: EtcdTokens::Simple.arguments(), ..Etcd::options() };
    let server = within(Etcd::start_with(options)).await.unwrap();
    within(server.enable_auth("registry/")).await.unwrap();
    let login = ConnectOptions::new().with_user("root", Etcd::PASSWORD);
    let root = Client::connect([server.endpoint()], Some(login));
    let mut auth = within(Box::pin(root)).await.unwrap().auth_client();
    within(auth.role_add("reader")).await.unwrap();
    let read = Permission::read("registry/").with_prefix();
    within(auth.role_grant_permission("reader", read)).await.unwrap();
    within(auth.user_add("reader", "pw", None)).await.unwrap();
    within(auth.user_grant_role("reader", "reader")).await.unwrap();
    let url = |login: &str| server.url().replace("etcd://", &format!("etcd://{login}@"));

    let ended = examine(&url("app:wrong")).await;
    assert_eq!(ended.code, 1);
    assert!(ended.finding("error", "connect").contains("credentials"), "{ended:?}");
    let ended = examine(&url("reader:pw")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let register = ended.finding("warning", "register");
    assert!(register.contains("may not register") && register.contains("permission denied"));
    ended.finding("ok", "answer");
    let ended = examine(&url(&format!("app:{}", Etcd::PASSWORD))).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.finding("ok", "register");
}

#[tokio::test]
async fn a_member_that_is_down_is_named() {
    let mut cluster = within(EtcdCluster::start()).await.unwrap();
    let dead = cluster.endpoint(1).replace("http://", "");
    cluster.process(1).kill().unwrap();
    // The other members may have to elect a leader first.
    let registry = registry(cluster.url()).await;
    while within(registry.load(&SERVICE.parse().unwrap(), &CallOptions::DEFAULT)).await.is_err() {}
    let ended = examine(cluster.url()).await;
    assert!(ended.finding("warning", "endpoint").contains(&dead), "{ended:?}");
    let members = ended.finding("warning", "members");
    assert!(members.contains("1 of 3 members"), "{members}");
}

#[tokio::test]
async fn members_that_the_url_does_not_name_are_not_asked() {
    let cluster = within(EtcdCluster::start()).await.unwrap();
    let authority = |n| cluster.endpoint(n).replace("http://", "");
    let ended = examine(&format!("etcd://{}", authority(0))).await;
    let unasked = ended.finding("warning", "members");
    assert!(unasked.contains("2 of 3 members") && unasked.contains("not queried"), "{unasked}");
    assert!(unasked.contains(&authority(1)) && unasked.contains(&authority(2)), "{unasked}");
    let told = ended.finding("ok", "members");
    assert!(told.contains("all queried ones answer"), "{told}");
    ended.finding("ok", "space"); // of one
}

#[tokio::test]
async fn a_member_of_another_cluster_is_an_error() {
    let options = || ServerOptions { url: None, ..Etcd::options() };
    let one = within(Etcd::start_with(options())).await.unwrap();
    let arguments = vec!["--initial-cluster-token".to_owned(), "another".to_owned()];
    let options = ServerOptions { arguments, ..options() };
    let two = within(Etcd::start_with(options)).await.unwrap();
    let ended = examine(&format!("{},{}", one.url(), two.url().replace("etcd://", ""))).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let told = ended.finding("error", "endpoint");
    assert!(told.contains("belongs to another cluster"), "{told}");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error() {
    let ended = examine("etcd://127.0.0.1:1").await;
    assert_eq!(ended.code, 1);
    ended.finding("error", "connect");
}

#[tokio::test]
async fn a_named_service_is_examined() {
    let patient = Patient::new().await;
    let url = patient.server.url();
    let ended = run(url, &["doctor", SERVICE, "--json"]).await;
    assert!(ended.finding("warning", "service").contains("none can be called"), "{ended:?}");
    let registry = registry(url).await;
    register(&*registry, &instance("1")).await;
    let ended = run(url, &["doctor", SERVICE, "--json"]).await;
    assert!(ended.finding("ok", "service").contains("`user.rpc`: 1, up: 1"), "{ended:?}");
    register(&*registry, &instance("2")).await;
    let shared = run(url, &["doctor", SERVICE, "--json"]).await.finding("warning", "service");
    assert!(shared.contains("10.0.0.1:8080 (1, 2)"), "{shared}");
    assert_eq!(load(&*registry).await.instances().len(), 2);
}
