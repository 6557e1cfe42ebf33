//! The metrics, and that their table in the documentation is complete.

#![allow(clippy::unwrap_used, clippy::float_cmp)] // gauges of counts are exact

use futures_util::StreamExt;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use registry_core::{CallOptions, Instance, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions, View};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_secs(10);

/// The metrics of a recorder, as `name{label=value,...}`.
struct Metrics(Snapshotter);

impl Metrics {
    /// Returns what was recorded since the last call: the recorder forgets what it returns.
    fn all(&self) -> BTreeMap<String, DebugValue> {
        let metrics = self.0.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
            let labels =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
            let labels: BTreeSet<_> = labels.collect();
            let labels = labels.into_iter().collect::<Vec<_>>().join(",");
            (format!("{}{{{labels}}}", key.key().name()), value)
        });
        metrics.collect()
    }
}

fn count(metrics: &BTreeMap<String, DebugValue>, name: &str) -> u64 {
    match metrics.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name}: {other:?} among {:?}", metrics.keys()),
    }
}

fn level(metrics: &BTreeMap<String, DebugValue>, name: &str) -> f64 {
    match metrics.get(name) {
        Some(DebugValue::Gauge(level)) => level.into_inner(),
        other => panic!("{name}: {other:?} among {:?}", metrics.keys()),
    }
}

fn node(id: &str, weight: u32) -> Instance {
    let address = "10.0.0.1:8080".parse().unwrap();
    Instance::new("a".parse().unwrap(), id.parse().unwrap(), address).with_weight(weight)
}

/// Waits until the state is as asked.
async fn until(view: &mut View, is: impl Fn(&View) -> bool) {
    let seen = async {
        while !is(view) {
            view.changed().await;
        }
    };
    timeout(TTL * 10, seen).await.expect("the view does not come to it");
}

#[tokio::test(start_paused = true)]
async fn exactly_the_documented_metrics_are_recorded() {
    let recorder = DebuggingRecorder::new();
    let metrics = Metrics(recorder.snapshotter());
    let _installed = ::metrics::set_default_local_recorder(&recorder);

    let store = MemRegistry::new();
    let flaky = FaultyRegistry::new(store.clone());
    let discovery = Discovery::new(Arc::new(flaky.clone()), DiscoveryOptions::default());
    let mut view = discovery.view(&"a".parse().unwrap());
    let options = RegistrationOptions { ttl: Some(TTL), ..RegistrationOptions::default() };
    let one = Registration::start(Arc::new(flaky.clone()), node("1", 1), options.clone());
    let one = one.await.unwrap();
    let two = Registration::start(Arc::new(store.clone()), node("2", 1), options).await.unwrap();
    until(&mut view, |view| view.state().instances().len() == 2).await;
    sleep(TTL).await;

    // One is cut off for longer than its ttl, while the store forgets that the other left.
    flaky.inject(Fault::Outage);
    two.stop().await.unwrap();
    sleep(TTL * 2).await;
    let now = metrics.all();
    assert_eq!(level(&now, "registry_registrations_active{service=a}"), 0.0, "up and down");
    assert!(count(&now, "registry_renewals_total{service=a}") >= 4);
    assert!(count(&now, "registry_renewals_failed_total{reason=unavailable,service=a}") >= 1);
    assert!(count(&now, "registry_view_disruptions_total{reason=unavailable,service=a}") >= 2);
    assert_eq!(count(&now, "registry_registrations_repeated_total{service=a}"), 1);
    assert_eq!(level(&now, "registry_view_instances{service=a}"), 2.0);
    assert!(level(&now, "registry_view_staleness_seconds{service=a}") >= 10.0);
    store.compact(
        store.load(&"a".parse().unwrap(), &CallOptions::DEFAULT).await.unwrap().cursor().revision(),
    );
    flaky.heal();
    until(&mut view, |view| {
        view.status().is_live()
            && view.store_snapshot().is_some_and(|now| now.instances().len() == 1)
    })
    .await;
    let now = metrics.all();
    assert_eq!(level(&now, "registry_registrations_active{service=a}"), 1.0);
    assert_eq!(count(&now, "registry_view_resyncs_total{reason=compacted,service=a}"), 1);
    assert_eq!(level(&now, "registry_view_staleness_seconds{service=a}"), 0.0);
    assert_eq!(level(&now, "registry_view_retained{service=a}"), 1.0, "two, for a while");

    // A subscriber that does not read gets the state.
    let mut slow = view.updates();
    assert!(slow.next().await.is_some());
    for weight in 0..2_000 {
        timeout(TTL, one.update(node("1", weight + 2))).await.unwrap().unwrap();
    }
    assert!(slow.next().await.is_some());
    assert_eq!(count(&metrics.all(), "registry_view_coalesced_total{service=a}"), 1);

    let documented: BTreeSet<&str> = include_str!("../src/metrics.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
        .collect();
    let all = metrics.all();
    let names: BTreeSet<&str> = all.keys().filter_map(|name| name.split('{').next()).collect();
    assert_eq!(names, documented);
    drop((view, slow));
}
