//! `register`.

use crate::support::{
    SERVICE, json, listed, next, on_each_server, registry, run, start, watch, within,
};
use etcd_client::{Client, GetOptions};
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::Etcd;
use rustix::process::Signal;
use serde_json::json;
use service_registry::InstanceStatus;
use service_registry::store::Change;

on_each_server! {
    an_instance_is_listed_until_a_signal_and_drained_first: holding;
    a_second_signal_cuts_the_draining_short: hurrying;
    a_displaced_registration_reports_superseded: displacing;
}

async fn holding(url: &str) {
    let mut changes = watch(&*registry(url).await).await;
    let arguments = ["register", SERVICE, "10.0.0.9:80", "--weight", "7", "--json"];
    let more = ["--metadata", "zone=eu-1", "--metadata", "note=a=b", "--drain", "100ms"];
    let held = &mut start(url, &[arguments, more].concat());
    let told = held.json().await;
    assert_eq!(told["state"], "active");
    let id = told["id"].as_str().unwrap();
    assert!(id.parse::<i64>().unwrap() > 0, "the default id is that of the lease");
    let loaded = &json(url, &["get", SERVICE]).await[0]["instances"];
    let metadata = json!({"zone": "eu-1", "note": "a=b"});
    let expected = json!([
        {"id": id, "address": "10.0.0.9:80", "weight": 7, "status": "up", "metadata": metadata},
    ]);
    assert_eq!(*loaded, expected);

    held.signal(Signal::TERM);
    for state in ["draining", "withdrawn"] {
        assert_eq!(held.json().await["state"], state);
    }
    let Change::Put(up) = next(&mut changes).await else { panic!("the first change is a put") };
    let Change::Put(draining) = next(&mut changes).await else {
        panic!("the second change is a put: it drains")
    };
    assert_eq!(
        (up.instance().status(), draining.instance().status()),
        (InstanceStatus::Up, InstanceStatus::Draining)
    );
    assert_eq!(next(&mut changes).await.id(), up.id());
    assert!(listed(url).await.is_empty());
}

async fn hurrying(url: &str) {
    // The drain time is longer than the deadline of the test.
    let mut held = start(url, &["register", SERVICE, "10.0.0.9:80", "--drain", "10m"]);
    assert!(held.line().await.starts_with("active user.rpc "));
    held.signal(Signal::INT);
    assert!(held.line().await.starts_with("draining "));
    held.signal(Signal::INT);
    let ended = held.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out[0].starts_with("withdrawn "), "{ended:?}");
    assert!(listed(url).await.is_empty());
}

async fn displacing(url: &str) {
    let arguments = ["register", SERVICE, "10.0.0.9:80", "--id", "a", "--ttl", "2s", "--json"];
    let mut one = start(url, &arguments);
    assert_eq!(one.json().await["state"], "active");
    let mut two = start(url, &arguments);
    assert_eq!(two.json().await["state"], "active");
    // It retries once; a slow reader misses that status.
    let mut state = one.json().await["state"].clone();
    if state == "retrying" {
        state = one.json().await["state"].clone();
    }
    assert_eq!(state, "superseded");
    assert_eq!(listed(url).await, ["a"]);
}

#[tokio::test]
async fn a_signal_while_it_registers_leaves_nothing_behind() {
    let server = Etcd::start().await.expect("a server");
    let direct = server.endpoint().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(direct).await.unwrap();
    // The address is only in the write: the read of the holder, which comes first, also names the service.
    proxy.lose_replies_from("10.0.0.9:80");
    let mut changes = watch(&*registry(server.url()).await).await;
    // The ttl is longer than the deadline of the test.
    let arguments = ["register", SERVICE, "10.0.0.9:80", "--ttl", "10m", "--json"];
    let held = start(&format!("etcd://{}", proxy.address()), &arguments);
    assert!(matches!(next(&mut changes).await, Change::Put(_)));
    assert!(proxy.loses_replies());
    held.signal(Signal::TERM);
    proxy.heal();
    let ended = held.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(listed(server.url()).await.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn in_the_layout_of_go_zero_an_instance_is_named_after_its_lease() {
    let server = Etcd::start().await.expect("a server");
    let url = format!("{}?layout=go-zero", server.url());
    let mut held = start(&url, &["register", SERVICE, "10.0.0.9:80", "--json"]);
    let id = held.json().await["id"].as_str().unwrap().to_owned();
    let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
    let all = Some(GetOptions::new().with_prefix());
    let found = within(raw.kv_client().get("user.rpc/", all)).await.unwrap();
    let [kv] = found.kvs() else { panic!("expected one key: {found:?}") };
    assert_eq!(
        (kv.key_str().unwrap(), kv.value_str().unwrap()),
        (&*format!("user.rpc/{id}"), "10.0.0.9:80")
    );
    assert_eq!(kv.lease().to_string(), id);

    let ended = run(&url, &["register", SERVICE, "10.0.0.9:80", "--id", "a"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err[0].contains("a decimal"), "{ended:?}");
}
