//! Metrics of channels, recorded through the crate `metrics` like those of the engine
//! ([`registry_engine::metrics`]). If a process has several channels of one service, a gauge shows the
//! channel that changed last. The first channel of a process [describes](describe) the metrics.
//!
//! | name | kind | labels | meaning |
//! | --- | --- | --- | --- |
//! | `registry_channel_endpoints` | gauge | `service` | endpoints of the channel, connected or not |
//! | `registry_channel_connected` | gauge | `service` | endpoints that are connected and take calls |
//! | `registry_channel_connect_failures_total` | counter | `service` | failed attempts to connect |
//! | `registry_channel_ejections_total` | counter | `service` | ejections of endpoints after consecutive failures |
//! | `registry_channel_replays_total` | counter | `service` | retries of a call that no endpoint had processed |

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use std::sync::Once;

/// Describes every metric of the table above to the recorder.
///
/// The first channel of a process calls this. Call it yourself only for a recorder that is installed later, or for a
/// second recorder.
pub fn describe() {
    describe_gauge!(
        "registry_channel_endpoints",
        Unit::Count,
        "Endpoints of the channel, connected or not"
    );
    describe_gauge!(
        "registry_channel_connected",
        Unit::Count,
        "Endpoints that are connected and take calls"
    );
    describe_counter!(
        "registry_channel_connect_failures_total",
        Unit::Count,
        "Failed attempts to connect"
    );
    describe_counter!(
        "registry_channel_ejections_total",
        Unit::Count,
        "Ejections of endpoints after consecutive failures"
    );
    describe_counter!(
        "registry_channel_replays_total",
        Unit::Count,
        "Retries of a call that no endpoint had processed"
    );
}

/// The meters of one channel, looked up once.
pub(crate) struct Meters {
    endpoints: Gauge,
    connected: Gauge,
    connect_failures: Counter,
    ejections: Counter,
    replays: Counter,
}

impl Meters {
    pub(crate) fn new(service: &str) -> Self {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(describe);
        let name = || service.to_owned();
        Self {
            endpoints: gauge!("registry_channel_endpoints", "service" => name()),
            connected: gauge!("registry_channel_connected", "service" => name()),
            connect_failures: counter!("registry_channel_connect_failures_total", "service" => name()),
            ejections: counter!("registry_channel_ejections_total", "service" => name()),
            replays: counter!("registry_channel_replays_total", "service" => name()),
        }
    }

    #[allow(clippy::cast_precision_loss)] // there are no 2^53 endpoints
    pub(crate) fn set_endpoints(&self, endpoints: usize, connected: usize) {
        self.endpoints.set(endpoints as f64);
        self.connected.set(connected as f64);
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_failures.increment(1);
    }

    pub(crate) fn ejected(&self) {
        self.ejections.increment(1);
    }

    pub(crate) fn replayed(&self) {
        self.replays.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_util::debugging::DebuggingRecorder;
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_is_documented_and_described() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _installed = metrics::set_default_local_recorder(&recorder);
        describe(); // another test of this process may have described them to another recorder
        let meters = Meters::new("a");
        meters.set_endpoints(2, 1);
        meters.connect_failed();
        meters.ejected();
        meters.replayed();
        let documented = include_str!("metrics.rs").lines();
        let documented: BTreeSet<_> = documented
            .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
            .map(str::to_owned)
            .collect();
        let all = snapshotter.snapshot().into_vec().into_iter();
        let described: BTreeSet<_> = all
            .filter(|(_, _, description, _)| description.is_some())
            .map(|(key, ..)| key.key().name().to_owned())
            .collect();
        assert_eq!(described, documented);
    }
}
