//! Loads, and lists of services.

use crate::support::{Fixture, claim, encoded, instance, name, next, within};
use etcd_client::TxnOp;
use registry_core::{CallOptions, Registry};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::timeout;
use std::time::Duration;

#[tokio::test]
async fn load_reads_only_the_keys_of_its_service() {
    let etcd = Fixture::start().await;
    let names = ["user", "user2", "user/a", "us", "u%73er", "\u{fc}ser", "a b"];
    for name in names {
        etcd.register(&instance(name, "a%2Fb"), &claim(10)).await.unwrap();
    }
    for name in names {
        let found = etcd.load(name).await;
        let found: Vec<_> = found.instances().collect();
        assert_eq!(found, [&instance(name, "a%2Fb")]);
    }
    let listed = within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, names.iter().map(|each| name(each)).collect());
}

#[tokio::test]
async fn service_list_skips_foreign_keys() {
    let etcd = Fixture::start().await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    for foreign in
        ["registry/x", "registry/x/y/z", "registry//x", "registry/%78/1", "registryx/y/1"]
    {
        etcd.put(foreign, "").await;
    }
    let listed = within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, [name("user")].into());
}

#[tokio::test]
async fn undecodable_record_is_skipped_and_counted() {
    let etcd = Fixture::start().await;
    let good = instance("user", "good");
    etcd.register(&good, &claim(10)).await.unwrap();
    etcd.put("registry/user/bad", "10.0.0.1:80").await;
    etcd.put("registry/user/newer", r#"{"v":2}"#).await;
    etcd.put("registry/user/nested/1", encoded(&good)).await;
    etcd.put("registry/user/%61", encoded(&good)).await;
    let found = etcd.load("user").await;
    assert_eq!(found.instances().collect::<Vec<_>>(), [&good]);
    assert_eq!(found.undecodable(), 4);
    etcd.watch_after("user", found.cursor()).await.unwrap();
}

#[tokio::test]
async fn load_of_many_pages_reads_one_revision() {
    let etcd = Fixture::start().await;
    let record = encoded(&instance("user", "0"));
    let puts = |from: usize| -> Vec<TxnOp> {
        let ids = from..from + 125;
        ids.map(|id| TxnOp::put(format!("registry/user/{id}"), record.clone(), None)).collect()
    };
    for from in (0..2_500).step_by(125) {
        etcd.change(puts(from)).await;
    }
    etcd.put("registry/user2/0", record.clone()).await;
    let writes = async {
        loop {
            etcd.change(puts(2_500)).await;
            let deletes =
                (2_500..2_625).map(|id| TxnOp::delete(format!("registry/user/{id}"), None));
            etcd.change(deletes.collect::<Vec<_>>()).await;
        }
    };
    let reads = async {
        for _ in 0..20 {
            let found = etcd.load("user").await.instances().len();
            assert!(found == 2_500 || found == 2_625, "{found}");
        }
    };
    tokio::select! {
        () = writes => {}
        () = reads => {}
    }
}

/// etcd-client's default limit is 4 MiB.
#[tokio::test]
async fn page_and_backlog_of_large_records_are_read() {
    let etcd = Fixture::start().await;
    let before = etcd.load("user").await;
    for id in 0..150 {
        let large = instance("user", &id.to_string());
        let large = large.with_metadata([("k", "v".repeat(60_000))]);
        etcd.put(&format!("registry/user/{id}"), encoded(&large)).await;
    }
    let found = etcd.load("user").await;
    assert_eq!(found.instances().len(), 150);

    let mut watch = etcd.watch_after("user", before.cursor()).await.unwrap();
    let mut folded = before;
    while folded.instances().len() < 150 {
        folded.apply(&next(&mut watch).await.batch).unwrap();
    }
    assert_eq!(folded.records(), found.records());
}

/// Regression: the first page always had 1,000 keys. If it took longer than the request timeout, the service could
/// never be read.
#[tokio::test]
async fn service_with_large_values_is_read_over_a_slow_link() {
    for query in ["", "?layout=go-zero"] {
        let etcd = Fixture::start_as(query).await;
        let key = if query.is_empty() { "registry/user" } else { "user" };
        for n in 0..24 {
            etcd.put(&format!("{key}/{n}"), vec![b'x'; 1_400_000]).await;
        }
        let value = if query.is_empty() {
            encoded(&instance("user", "99"))
        } else {
            b"10.0.0.1:8080".into()
        };
        etcd.put(&format!("{key}/99"), value).await;
        let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(address).await.unwrap();
        let url = format!("etcd://{}{query}", proxy.address()).parse().unwrap();
        let request_timeout = Duration::from_millis(2_500);
        let options = EtcdOptions { request_timeout, ..EtcdOptions::default() };
        let registry = within(EtcdRegistry::connect_with(&url, options)).await.unwrap();
        // Reading everything takes four seconds.
        proxy.inject(Fault::Throttle { bytes_per_second: 8_000_000 });
        let user = name("user");
        let loading = registry.load(&user, &CallOptions::DEFAULT);
        let loaded = timeout(Duration::from_secs(40), loading).await.unwrap().unwrap();
        assert_eq!((loaded.undecodable(), loaded.instances().len()), (24, 1), "{query}");
        let listing = registry.services(&CallOptions::DEFAULT);
        assert_eq!(within(listing).await.unwrap(), [user].into(), "{query}");
    }
}
