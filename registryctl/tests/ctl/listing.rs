//! `ls` and `get`.

use crate::support::{SERVICE, instance, json, loaded, on_each_server, register, registry, run};
use serde_json::json;
use service_registry::{Instance, InstanceStatus};

on_each_server! {
    registered_instances_are_listed: listing;
    without_instances_ls_exits_with_0_and_get_with_1: nothing;
}

async fn listing(url: &str) {
    let registry = registry(url).await;
    let heavy = instance("2").with_weight(200).with_metadata([("zone", "eu-1")]);
    let order = "prod/order.rpc".parse().unwrap();
    let other = Instance::from_parts(order, "1".parse().unwrap(), "h:80".parse().unwrap());
    for one in [&instance("1").with_status(InstanceStatus::Draining), &heavy, &other] {
        register(&*registry, one).await;
    }

    let counts = json(url, &["ls"]).await;
    let count = |service, up, draining| json!({"service": service, "up": up, "draining": draining, "undecodable": 0});
    assert_eq!(counts, [count("prod/order.rpc", 1, 0), count(SERVICE, 1, 1)]);
    assert_eq!(run(url, &["ls", "--names"]).await.out, ["prod/order.rpc", SERVICE]);
    let table = run(url, &["ls"]).await.out;
    assert_eq!(words(&table[0]), ["SERVICE", "UP", "DRAINING", "UNDECODABLE"]);
    assert_eq!(words(&table[2]), [SERVICE, "1", "1", "0"]);

    let loaded = &json(url, &["get", SERVICE]).await[0];
    assert_eq!(loaded["instances"][0]["status"], "draining");
    let expected = json!({
        "id": "2", "address": "10.0.0.1:8080", "weight": 200, "status": "up", "metadata": {"zone": "eu-1"},
    });
    assert_eq!(loaded["instances"][1], expected);
    let snapshot = crate::support::load(&*registry).await;
    assert_eq!(loaded["cursor"], snapshot.cursor().to_string());
    let ended = run(url, &["get", SERVICE]).await;
    assert_eq!(words(&ended.out[2]), ["2", "10.0.0.1:8080", "200", "up", "zone=eu-1"]);
    assert!(ended.err[0].contains(&snapshot.cursor().to_string()), "{ended:?}");
}

async fn nothing(url: &str) {
    for (arguments, code) in [(&["ls"][..], 0), (&["ls", "--names"], 0), (&["get", SERVICE], 1)] {
        let ended = run(url, arguments).await;
        assert_eq!((ended.code, ended.out.len()), (code, 0), "{ended:?}");
        assert!(ended.err[0].starts_with("no "), "{ended:?}");
    }
    assert!(json(url, &["ls"]).await.is_empty());
    assert_eq!(loaded(url).await["instances"], json!([]));
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
