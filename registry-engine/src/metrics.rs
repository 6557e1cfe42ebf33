//! Metrics of the engine, recorded through the crate `metrics`. Install a recorder before the first registration or
//! view: earlier metrics and descriptions are lost (see [`describe`]). If a process has several
//! [`Discovery`](crate::Discovery)s, the gauges of a service are the sums over their views.
//!
//! | name | kind | labels | meaning |
//! | --- | --- | --- | --- |
//! | `registry_registrations_active` | gauge | `service` | registrations whose last acknowledged renewal was sent within the ttl |
//! | `registry_registrations_repeated_total` | counter | `service` | times an instance was registered again after its lease was lost |
//! | `registry_renewals_total` | counter | `service` | renewals that succeeded |
//! | `registry_renewals_failed_total` | counter | `service`, `reason` | renewals that failed; the reason is the kind of the error |
//! | `registry_view_instances` | gauge | `service` | instances shown, including retained ones |
//! | `registry_view_retained` | gauge | `service` | retained instances: shown although the store does not list them |
//! | `registry_view_retained_total` | counter | `service` | instances retained so far |
//! | `registry_view_released_total` | counter | `service`, `reason` | instances no longer retained: they `returned`, `refused` a connection, or their hold time `expired` |
//! | `registry_view_stale` | gauge | `service` | 1 while the view is not live; alert if this lasts longer than a ttl |
//! | `registry_view_resyncs_total` | counter | `service`, `reason` | times the service was loaded again; the reason is the kind of the error that required it; the first load does not count |
//! | `registry_view_disruptions_total` | counter | `service`, `reason` | times the watch ended or an attempt to open it failed; the reason is the kind of the error |
//! | `registry_view_lag_batches` | histogram | `service` | events that were ready when the view read them; at most 256 are read at once |
//! | `registry_view_coalesced_total` | counter | `service` | times a subscriber lagged so far that it received the state instead of the changes |
//! | `registry_view_ejections_total` | counter | `service` | ejections of instances after consecutive failed picks; gRPC channels count theirs in a metric of their own |
//! | `registry_view_undecodable` | gauge | `service` | undecodable records skipped by the last load |

use crate::view::report::Release;
use ::metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use registry_core::{ErrorKind, ServiceName};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Describes every metric to the recorder, with the texts of the table above.
///
/// The first registration or view of a process calls this. Call it only for a recorder that is installed later, or for
/// a second one.
pub fn describe() {
    describe_gauge!(
        "registry_registrations_active",
        Unit::Count,
        "Registrations whose last acknowledged renewal was sent within the ttl"
    );
    describe_counter!(
        "registry_registrations_repeated_total",
        Unit::Count,
        "Times an instance was registered again after its lease was lost"
    );
    describe_counter!("registry_renewals_total", Unit::Count, "Renewals that succeeded");
    describe_counter!(
        "registry_renewals_failed_total",
        Unit::Count,
        "Renewals that failed; the reason is the kind of the error"
    );
    describe_gauge!(
        "registry_view_instances",
        Unit::Count,
        "Instances shown, including retained ones"
    );
    describe_gauge!(
        "registry_view_retained",
        Unit::Count,
        "Retained instances: shown although the store does not list them"
    );
    describe_counter!("registry_view_retained_total", Unit::Count, "Instances retained so far");
    describe_counter!(
        "registry_view_released_total",
        Unit::Count,
        "Instances no longer retained: they returned, refused a connection, or their hold time expired"
    );
    describe_gauge!(
        "registry_view_stale",
        "1 while the view is not live; alert if this lasts longer than a ttl"
    );
    describe_counter!(
        "registry_view_resyncs_total",
        Unit::Count,
        "Times the service was loaded again; the reason is the kind of the error that required it; the first load does not count"
    );
    describe_counter!(
        "registry_view_disruptions_total",
        Unit::Count,
        "Times the watch ended or an attempt to open it failed; the reason is the kind of the error"
    );
    describe_histogram!(
        "registry_view_lag_batches",
        Unit::Count,
        "Events that were ready when the view read them; at most 256 are read at once"
    );
    describe_counter!(
        "registry_view_coalesced_total",
        Unit::Count,
        "Times a subscriber lagged so far that it received the state instead of the changes"
    );
    describe_counter!(
        "registry_view_ejections_total",
        Unit::Count,
        "Ejections of instances after consecutive failed picks; gRPC channels count theirs in a metric of their own"
    );
    describe_gauge!(
        "registry_view_undecodable",
        Unit::Count,
        "Undecodable records skipped by the last load"
    );
}

fn describe_once() {
    static DESCRIBED: Once = Once::new();
    DESCRIBED.call_once(|| contained(describe));
}

/// The metrics of one registration. The metrics that each renewal records are looked up only once.
pub(crate) struct RegistrationMetrics {
    service: ServiceName,
    active: Gauge,
    is_active: bool,
    renewals: Counter,
}

impl RegistrationMetrics {
    pub(crate) fn new(service: &ServiceName) -> Self {
        describe_once();
        let name = service.to_string();
        Self {
            active: gauge!("registry_registrations_active", "service" => name.clone()),
            is_active: false,
            renewals: counter!("registry_renewals_total", "service" => name.clone()),
            service: service.clone(),
        }
    }

    /// Returns the counter of successful renewals.
    pub(crate) fn renewals(&self) -> Counter {
        self.renewals.clone()
    }

    pub(crate) fn renewal_failed(&self, kind: ErrorKind) {
        contained(|| {
            counter!("registry_renewals_failed_total", "service" => self.service.to_string(), "reason" => kind.to_string())
                .increment(1);
        });
    }

    /// Counts an instance that is registered again after its lease was lost.
    pub(crate) fn repeated(&self) {
        contained(|| {
            counter!("registry_registrations_repeated_total", "service" => self.service.to_string())
                .increment(1);
        });
    }

    pub(crate) fn active(&mut self, active: bool) {
        match (self.is_active, active) {
            (false, true) => contained(|| self.active.increment(1.0)),
            (true, false) => contained(|| self.active.decrement(1.0)),
            _ => {}
        }
        self.is_active = active;
    }
}

impl Drop for RegistrationMetrics {
    fn drop(&mut self) {
        self.active(false);
    }
}

/// The metrics of one view.
pub(crate) struct ViewMetrics {
    service: ServiceName,
    instances: Level,
    retained: Level,
    stale: Level,
    undecodable: Level,
    lag: Histogram,
    coalesced: Counter,
}

impl ViewMetrics {
    pub(crate) fn new(service: &ServiceName) -> Self {
        describe_once();
        let name = service.to_string();
        Self {
            instances: Level::new(gauge!("registry_view_instances", "service" => name.clone())),
            retained: Level::new(gauge!("registry_view_retained", "service" => name.clone())),
            stale: Level::new(gauge!("registry_view_stale", "service" => name.clone())),
            undecodable: Level::new(gauge!("registry_view_undecodable", "service" => name.clone())),
            lag: histogram!("registry_view_lag_batches", "service" => name.clone()),
            coalesced: counter!("registry_view_coalesced_total", "service" => name.clone()),
            service: service.clone(),
        }
    }

    /// Returns the counter of subscribers that received the state instead of the changes.
    pub(crate) fn coalesced(&self) -> Counter {
        self.coalesced.clone()
    }

    /// Records how many events were ready.
    pub(crate) fn lag(&self, events: usize) {
        contained(|| self.lag.record(as_f64(events)));
    }

    /// Counts a watch that ended or could not be opened.
    pub(crate) fn disrupted(&self, kind: ErrorKind) {
        contained(|| {
            counter!("registry_view_disruptions_total", "service" => self.service.to_string(), "reason" => kind.to_string())
                .increment(1);
        });
    }

    /// Counts instances that are retained.
    pub(crate) fn retained(&self, instances: usize) {
        contained(|| {
            counter!("registry_view_retained_total", "service" => self.service.to_string())
                .increment(instances as u64);
        });
    }

    /// Counts instances that are no longer retained.
    pub(crate) fn released(&self, instances: usize, why: Release) {
        contained(|| {
            counter!("registry_view_released_total", "service" => self.service.to_string(), "reason" => why.name())
                .increment(instances as u64);
        });
    }

    /// Counts a reload.
    pub(crate) fn resynced(&self, reason: ErrorKind) {
        contained(|| {
            counter!("registry_view_resyncs_total", "service" => self.service.to_string(), "reason" => reason.to_string())
                .increment(1);
        });
    }

    /// Sets how many records the last load skipped.
    pub(crate) fn undecodable(&mut self, records: usize) {
        self.undecodable.set(records);
    }

    pub(crate) fn stale(&mut self, is_stale: bool) {
        self.stale.set(usize::from(is_stale));
    }

    pub(crate) fn shown(&mut self, instances: usize, retained: usize) {
        self.instances.set(instances);
        self.retained.set(retained);
    }
}

/// Counts an ejection of an instance. Ejections are rare, so the counter is looked up each time.
pub(crate) fn ejected(service: &ServiceName) {
    contained(|| {
        counter!("registry_view_ejections_total", "service" => service.to_string()).increment(1);
    });
}

/// The contribution of one view to a gauge, until it is dropped.
struct Level {
    gauge: Gauge,
    value: usize,
}

impl Level {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, value: 0 }
    }

    fn set(&mut self, value: usize) {
        let before = std::mem::replace(&mut self.value, value);
        if value != before {
            contained(|| self.gauge.increment(as_f64(value) - as_f64(before)));
        }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Records a metric. A recorder is foreign code: its panic loses this metric but must not end a task.
pub(crate) fn contained(record: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(record)));
}

/// Converts a count. The result is exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: usize) -> f64 {
    count as f64
}
