//! Tests of the metrics, and of the completeness of their documented table.

#![allow(clippy::unwrap_used, clippy::float_cmp)] // gauges of counts are exact

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};
use futures_util::StreamExt;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use registry_core::{CallOptions, Instance, Registry};
use registry_engine::{
    Discovery, DiscoveryOptions, Registration, RegistrationOptions, Update, View,
};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_secs(10);

/// The metrics of a recorder, as `name{label=value,...}`.
struct Metrics {
    snapshotter: Snapshotter,
    levels: Mutex<BTreeMap<String, f64>>,
}

impl Metrics {
    fn new(recorder: &DebuggingRecorder) -> Self {
        Self { snapshotter: recorder.snapshotter(), levels: Mutex::default() }
    }

    /// Returns the counts since the last call and the current gauges. The recorder clears what it returns.
    fn all(&self) -> BTreeMap<String, DebugValue> {
        let mut levels = self.levels.lock().unwrap();
        let metrics =
            self.snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
                let labels =
                    key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
                let labels: BTreeSet<_> = labels.collect();
                let labels = labels.into_iter().collect::<Vec<_>>().join(",");
                let name = format!("{}{{{labels}}}", key.key().name());
                let value = match value {
                    DebugValue::Gauge(change) => {
                        let level = levels.entry(name.clone()).or_default();
                        *level += change.into_inner();
                        DebugValue::Gauge((*level).into())
                    }
                    value => value,
                };
                (name, value)
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
    Instance::from_parts("a".parse().unwrap(), id.parse().unwrap(), address).with_weight(weight)
}

/// Waits until the view satisfies `is`.
async fn until(view: &mut View, is: impl Fn(&View) -> bool) {
    let seen = async {
        while !is(view) {
            view.changed().await.unwrap();
        }
    };
    timeout(TTL * 10, seen).await.expect("the view did not reach the state");
}

#[tokio::test(start_paused = true)]
async fn exactly_the_documented_metrics_are_recorded() {
    let recorder = DebuggingRecorder::new();
    let metrics = Metrics::new(&recorder);
    let _installed = ::metrics::set_default_local_recorder(&recorder);
    registry_engine::metrics::describe(); // another test of this process may have described them to its own recorder

    let store = MemRegistry::new();
    let flaky = FaultyRegistry::new(store.clone());
    let discovery = Discovery::new(Arc::new(flaky.clone()), DiscoveryOptions::default());
    let mut view = discovery.view(&"a".parse().unwrap());
    let options = RegistrationOptions::default().with_ttl(TTL);
    let one = Registration::start(Arc::new(flaky.clone()), node("1", 1), options.clone());
    let one = one.await.unwrap();
    let two = Registration::start(Arc::new(store.clone()), node("2", 1), options).await.unwrap();
    until(&mut view, |view| view.state().instances().len() == 2).await;
    sleep(TTL).await;

    // The first registration is disconnected for longer than its ttl. The second is withdrawn, and a compaction removes
    // that from the history.
    flaky.inject(Fault::Outage);
    two.stop().await.unwrap();
    sleep(TTL * 2).await;
    let now = metrics.all();
    assert_eq!(level(&now, "registry_registrations_active{service=a}"), 0.0, "both have ended");
    assert!(count(&now, "registry_renewals_total{service=a}") >= 4);
    assert!(count(&now, "registry_renewals_failed_total{reason=unavailable,service=a}") >= 1);
    assert!(count(&now, "registry_view_disruptions_total{reason=unavailable,service=a}") >= 2);
    assert_eq!(count(&now, "registry_registrations_repeated_total{service=a}"), 1);
    assert_eq!(level(&now, "registry_view_instances{service=a}"), 2.0);
    assert_eq!(level(&now, "registry_view_stale{service=a}"), 1.0);
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
    assert_eq!(level(&now, "registry_view_stale{service=a}"), 0.0);
    assert_eq!(level(&now, "registry_view_retained{service=a}"), 1.0, "the second one");
    // The first one was retained too if the view recovered before its registration.
    assert!((1..=2).contains(&count(&now, "registry_view_retained_total{service=a}")));
    sleep(TTL * 6).await;
    let now = metrics.all();
    assert_eq!(level(&now, "registry_view_retained{service=a}"), 0.0);
    assert_eq!(count(&now, "registry_view_released_total{reason=expired,service=a}"), 1);

    // A subscriber that lags receives the state.
    let mut slow = view.updates();
    assert!(slow.next().await.is_some_and(|update| matches!(update, Update::Reset(_))));
    for weight in 0..2_000 {
        timeout(TTL, one.update(|_| node("1", weight + 2))).await.unwrap().unwrap();
    }
    assert!(slow.next().await.is_some_and(|update| matches!(update, Update::Reset(_))));
    assert_eq!(count(&metrics.all(), "registry_view_coalesced_total{service=a}"), 1);

    view.count_ejection();
    let documented: BTreeSet<&str> = include_str!("../src/metrics.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
        .collect();
    let all = metrics.all();
    let names: BTreeSet<&str> = all.keys().filter_map(|name| name.split('{').next()).collect();
    assert_eq!(names, documented);
    let at_last = metrics.snapshotter.snapshot().into_vec().into_iter();
    let undescribed = at_last.filter(|(_, _, description, _)| description.is_none());
    let undescribed: Vec<_> = undescribed.map(|(key, ..)| key.key().name().to_owned()).collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");

    // The gauges are sums: dropping another view subtracts its contribution.
    let other = Discovery::new(Arc::new(store), DiscoveryOptions::default());
    let second = other.view(&"a".parse().unwrap());
    timeout(TTL, second.ready(TTL)).await.unwrap().unwrap();
    assert_eq!(level(&metrics.all(), "registry_view_instances{service=a}"), 2.0);
    drop(second);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(level(&metrics.all(), "registry_view_instances{service=a}"), 1.0);
    drop((view, slow));
}

/// A recorder whose metrics panic when they are used.
struct Broken;

impl ::metrics::CounterFn for Broken {
    fn increment(&self, _: u64) {
        panic!("planted")
    }

    fn absolute(&self, _: u64) {
        panic!("planted")
    }
}

impl ::metrics::GaugeFn for Broken {
    fn increment(&self, _: f64) {
        panic!("planted")
    }

    fn decrement(&self, _: f64) {
        panic!("planted")
    }

    fn set(&self, _: f64) {
        panic!("planted")
    }
}

impl ::metrics::HistogramFn for Broken {
    fn record(&self, _: f64) {
        panic!("planted")
    }
}

impl Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &::metrics::Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Self))
    }

    fn register_gauge(&self, _: &Key, _: &::metrics::Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Self))
    }

    fn register_histogram(&self, _: &Key, _: &::metrics::Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Self))
    }
}

/// Regression: when the counter of one registration panicked, the renewals of all registrations ended silently.
#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_loses_only_its_metrics() {
    let _installed = ::metrics::set_default_local_recorder(&Broken);
    std::panic::set_hook(Box::new(|_| {})); // the default hook would print thousands of panics
    let link = FaultyRegistry::new(MemRegistry::new());
    let registry: Arc<dyn Registry> = Arc::new(link.clone());
    let mut registrations = Vec::new();
    for id in ["1", "2", "3"] {
        let options = RegistrationOptions::default();
        registrations
            .push(Registration::start(registry.clone(), node(id, 100), options).await.unwrap());
    }
    let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
    let view = discovery.view(&"a".parse().unwrap());
    view.ready(TTL).await.unwrap();
    for fault in [Fault::Cut, Fault::Compaction, Fault::Silence] {
        link.inject(fault);
        sleep(TTL * 2).await;
        link.heal();
        sleep(TTL * 2).await;
    }
    assert!(view.status().is_live());
    assert_eq!(view.state().records().len(), 3);
    assert!(registrations.iter().all(|registration| registration.status().is_active()));
    for registration in registrations {
        registration.stop().await.unwrap();
    }
}
