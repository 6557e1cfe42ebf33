//! `watch`.

use crate::support::{
    SERVICE, instance, load, on_each_server, register, registry, run, start, within,
};
use etcd_client::{Client, DeleteOptions};
use registry_testbed::servers::{Etcd, Redis};
use rustix::process::Signal;
use serde_json::Value;
use service_registry::store::CallOptions;

on_each_server! {
    a_cursor_resumes_exactly: resuming;
    a_closed_output_ends_the_watch_without_an_error: closing;
    a_cursor_of_another_service_is_refused: refusing;
    the_text_output_has_one_line_for_each_change: reading;
}

async fn resuming(url: &str) {
    let registry = registry(url).await;
    register(&*registry, &instance("1")).await;
    let mut watch = start(url, &["watch", SERVICE, "--json"]);
    let reset = watch.event("reset").await;
    assert_eq!(reset["instances"][0]["id"], "1");
    watch.event("live").await;
    let lease = register(&*registry, &instance("2")).await;
    let put = watch.event("put").await;
    assert_eq!(put["instance"]["address"], "10.0.0.1:8080");
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    let delete = watch.event("delete").await;
    assert_eq!(delete["id"], "2");
    assert!(number(&put) > number(&reset) && number(&delete) > number(&put));
    watch.signal(Signal::INT);
    let note = watch.note("resume with: --after ").await;
    assert_eq!(watch.ended().await.code, 0);

    // Changes while no watch is open.
    register(&*registry, &instance("3")).await;
    register(&*registry, &instance("4")).await;
    let cursor = note.rsplit(' ').next().unwrap();
    let mut resumed = start(url, &["watch", SERVICE, "--json", "--after", cursor]);
    for id in ["3", "4"] {
        assert_eq!(resumed.event("put").await["instance"]["id"], id);
    }
    resumed.event("live").await;
    let mut from_the_put =
        start(url, &["watch", SERVICE, "--json", "--after", put["cursor"].as_str().unwrap()]);
    assert_eq!(from_the_put.event("delete").await["id"], "2");
    for id in ["3", "4"] {
        assert_eq!(from_the_put.event("put").await["instance"]["id"], id);
    }
    from_the_put.event("live").await;
}

async fn closing(url: &str) {
    let registry = registry(url).await;
    let mut watch = start(url, &["watch", SERVICE, "--json"]);
    watch.event("reset").await;
    watch.event("live").await;
    watch.close_stdout();
    register(&*registry, &instance("1")).await;
    let ended = watch.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.iter().all(|line| line.starts_with("resume with")), "{ended:?}");
}

async fn refusing(url: &str) {
    let registry = registry(url).await;
    let other =
        within(registry.load(&"other".parse().unwrap(), &CallOptions::DEFAULT)).await.unwrap();
    let ended =
        run(url, &["watch", SERVICE, "--after", &other.cursor().to_string(), "--json"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.iter().any(|line| line.starts_with("advice: ")), "{ended:?}");
    assert!(ended.out.is_empty(), "it prints no reset instead: {ended:?}");
}

async fn reading(url: &str) {
    let registry = registry(url).await;
    let lease = register(&*registry, &instance("1")).await;
    let mut watch = start(url, &["watch", SERVICE]);
    let words = |line: String| line.split_once(' ').unwrap().1.to_owned();
    assert_eq!(words(watch.line().await), "reset, instances: 1");
    assert_eq!(words(watch.line().await), "is 1 10.0.0.1:8080 100 up");
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(words(watch.line().await), "delete 1 (withdrawn)");
}

#[tokio::test]
async fn a_compacted_history_is_reported_and_loaded_again() {
    let server = Etcd::start().await.expect("a server");
    let registry = registry(server.url()).await;
    let cursor = load(&*registry).await.cursor().to_string();
    register(&*registry, &instance("1")).await;
    let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
    let last = register(&*registry, &instance("2")).await.revision().get();
    within(raw.kv_client().compact(last.cast_signed(), None)).await.unwrap();

    let mut watch = start(server.url(), &["watch", SERVICE, "--json", "--after", &cursor]);
    assert_eq!(watch.event("gone").await["why"], "compacted");
    let reset = watch.event("reset").await;
    assert_eq!(reset["instances"].as_array().unwrap().len(), 2);
    watch.event("live").await;
}

#[tokio::test]
async fn a_wiped_history_is_reported_and_loaded_again() {
    let server = Redis::start().await.expect("a server");
    let registry = registry(server.url()).await;
    register(&*registry, &instance("1")).await;
    let mut watch = start(server.url(), &["watch", SERVICE, "--json"]);
    watch.event("reset").await;
    watch.event("live").await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut raw = within(client.get_multiplexed_async_connection()).await.unwrap();
    within(redis::cmd("FLUSHALL").exec_async(&mut raw)).await.unwrap();
    assert_eq!(watch.event("gone").await["why"], "diverged");
    assert_eq!(watch.event("reset").await["instances"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn only_the_last_change_of_a_revision_has_a_cursor() {
    let server = Etcd::start().await.expect("a server");
    let registry = registry(server.url()).await;
    register(&*registry, &instance("1")).await;
    register(&*registry, &instance("2")).await;
    let mut watch = start(server.url(), &["watch", SERVICE, "--json"]);
    watch.event("reset").await;
    watch.event("live").await;
    let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
    let all = Some(DeleteOptions::new().with_prefix());
    within(raw.kv_client().delete("registry/user.rpc/", all)).await.unwrap();
    let (first, last) = (watch.event("delete").await, watch.json().await);
    assert_eq!(first["revision"], last["revision"]);
    assert!(first.get("cursor").is_none() && last["cursor"].is_string(), "{first} {last}");
}

#[tokio::test]
async fn an_outage_is_reported_and_missed_changes_follow() {
    let mut server = Etcd::start().await.expect("a server");
    let url = server.url().to_owned();
    let registry = registry(&url).await;
    let mut watch = start(&url, &["watch", SERVICE, "--json"]);
    watch.event("reset").await;
    watch.event("live").await;
    server.process().unwrap().kill().unwrap();
    watch.event("trouble").await;
    within(server.process().unwrap().restart()).await.unwrap();
    loop {
        let event = watch.json().await;
        match event["type"].as_str().unwrap() {
            "live" => break,
            "trouble" | "progress" => {}
            other => panic!("`{other}`: {event}"),
        }
    }
    register(&*registry, &instance("1")).await;
    assert_eq!(watch.event("put").await["instance"]["id"], "1");
}

fn number(event: &Value) -> u64 {
    event["revision"].as_u64().unwrap()
}
