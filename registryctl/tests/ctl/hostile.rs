//! Data that others have put into a store cannot control the terminal.

use crate::support::{SERVICE, instance, on_each_server, register, registry, run, start, within};
use etcd_client::Client;
use registry_core::printable;
use registry_testbed::servers::Etcd;
use rustix::process::Signal;
use service_registry::store::{CallOptions, Registry};

on_each_server! {
    names_and_metadata_cannot_control_the_terminal: names;
}

const HOSTILE: &str = "\u{202e}\u{200b}\u{feff}";

/// Registers an instance with unprintable characters in every text.
async fn register_hostile(registry: &dyn Registry) {
    let one = instance(&format!("1{HOSTILE}"))
        .with_label("a\u{1b}[2J", HOSTILE)
        .with_zone(format!("z\n{HOSTILE}"))
        .with_metadata([(format!("k\n{HOSTILE}"), "\u{1b}[2J\u{9b}")]);
    register(registry, &one).await;
}

fn assert_printable(arguments: &[&str], lines: &[String]) {
    for line in lines {
        assert_eq!(printable(line), *line, "{arguments:?}");
    }
}

async fn names(url: &str) {
    let registry = registry(url).await;
    register_hostile(&*registry).await;
    for verb in [&["ls"][..], &["get", SERVICE], &["doctor", SERVICE]] {
        for json in [&[][..], &["--json"]] {
            let arguments = [verb, json].concat();
            let ended = run(url, &arguments).await;
            assert!(!ended.out.is_empty(), "{ended:?}");
            assert_printable(&arguments, &[ended.out, ended.err].concat());
        }
    }
    for json in [&[][..], &["--json"]] {
        let arguments = [&["watch", SERVICE][..], json].concat();
        let mut watch = start(url, &arguments);
        let first = watch.line().await;
        watch.signal(Signal::INT);
        let ended = watch.ended().await;
        assert_printable(&arguments, &[vec![first], ended.out, ended.err].concat());
    }
    // JSON parses to the text that was registered.
    let loaded = &crate::support::loaded(url).await["instances"][0];
    assert_eq!(loaded["id"], format!("1{HOSTILE}"));
    within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn foreign_keys_and_values_cannot_control_the_terminal() {
    let server = Etcd::start().await.expect("a server");
    let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
    let values = [
        "\u{1b}[2J\n",
        "{\"address\":\"\\n\\u001b[2J\u{202e}\"}",
        "{\"address\":\"10.0.0.1:80\",\"status\":\"\\n\u{202e}\"}",
    ];
    for layout in ["native", "go-zero", "grpc", "kratos", "kitex"] {
        let url = format!("{}?layout={layout}", server.url());
        for (n, value) in values.iter().enumerate() {
            for root in ["registry/", "", "microservices/", "kitex/registry-etcd/"] {
                let key = format!("{root}user.rpc/{n}\u{1b}[2J{HOSTILE}\n");
                within(raw.kv_client().put(key, *value, None)).await.unwrap();
            }
        }
        for json in [&[][..], &["--json"]] {
            let arguments = [&["doctor", SERVICE][..], json].concat();
            let ended = run(&url, &arguments).await;
            assert_printable(&arguments, &[ended.out, ended.err].concat());
        }
    }
}
