//! A service that is registered in another layout than that of the URL.

use crate::support::{Fixture, claim, instance, within};
use registry_core::{CallOptions, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::Warnings;
use registry_testkit::lag::timeout;
use std::time::Duration;

/// Regression: a server registered in the native layout while its client used the layout of go-zero: 528 calls found no
/// instance, and nothing explained why.
#[tokio::test]
async fn service_in_another_layout_is_logged_once() {
    let native = Fixture::start().await;
    let go_zero = native.server.url().to_owned() + "?layout=go-zero";
    let go_zero = within(EtcdRegistry::connect(&go_zero.parse().unwrap())).await.unwrap();
    let options = CallOptions::DEFAULT;
    let mail = instance("mail.rpc", "7");
    native.register(&instance("user.rpc", "1"), &claim(60)).await.unwrap();
    within(go_zero.register(&mail, &claim(60), &options)).await.unwrap();

    let warnings = Warnings::capture();
    let empty = within(go_zero.load(&"user.rpc".parse().unwrap(), &options)).await.unwrap();
    assert!(empty.records().is_empty());
    assert!(native.load("mail.rpc").await.records().is_empty());
    assert!(native.load("nobody").await.records().is_empty());
    let told = async {
        while warnings.lines().len() < 2 {
            native.load("mail.rpc").await; // which is looked up only once
        }
    };
    timeout(Duration::from_secs(20), told).await.unwrap();
    let mut lines = warnings.lines();
    lines.sort();
    for (line, parts) in lines.iter().zip([
        ["service=mail.rpc", "layout=native", "found_in=go-zero"],
        ["service=user.rpc", "layout=go-zero", "found_in=native"],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{lines:?}");
        }
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
}
