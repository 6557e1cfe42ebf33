//! What the engine tells the facade of the crate `metrics`. Install a recorder before the first
//! registration or view, or these are told to nobody. Gauges of a service are of the view that was
//! opened last, if a process has several [`Discovery`](super::Discovery)s.
//!
//! | name | kind, unit | labels | what it is |
//! | --- | --- | --- | --- |
//! | `registry_registrations_active` | gauge | `service` | registrations that the store acknowledged within their ttl |
//! | `registry_registrations_repeated_total` | counter | `service` | times an instance had to be registered anew |
//! | `registry_renewals_total` | counter | `service` | renewals that succeeded |
//! | `registry_renewals_failed_total` | counter | `service`, `reason` | renewals that did not; the reason is the kind of the error |
//! | `registry_view_instances` | gauge | `service` | instances shown, those retained among them |
//! | `registry_view_retained` | gauge | `service` | instances shown that the store does not list |
//! | `registry_view_staleness_seconds` | gauge, seconds | `service` | how long the view has been stale, as of its last try to mend that; 0 when live |
//! | `registry_view_resyncs_total` | counter | `service`, `reason` | times the service was loaded anew, and the kind of the error that led to it; the first load is none |
//! | `registry_view_disruptions_total` | counter | `service`, `reason` | times the watch broke or a try to mend it failed; the reason is the kind of the error |
//! | `registry_view_lag_batches` | histogram | `service` | how many batches, or other news, were waiting when the view came to read; 256 is the most it takes at once |
//! | `registry_view_coalesced_total` | counter | `service` | times a subscriber was so slow that it got the state in place of the changes |
//! | `registry_view_undecodable` | gauge | `service` | records that could not be decoded at the last load |

use super::view::ViewState;
use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use registry_core::{ErrorKind, ServiceName};

/// The meters of one registration. Those of every renewal are looked up once.
pub(super) struct RegistrationMeters {
    service: ServiceName,
    active: Gauge,
    is_active: bool,
    renewals: Counter,
}

impl RegistrationMeters {
    pub(super) fn new(service: &ServiceName) -> Self {
        let name = service.to_string();
        Self {
            active: gauge!("registry_registrations_active", "service" => name.clone()),
            is_active: false,
            renewals: counter!("registry_renewals_total", "service" => name.clone()),
            service: service.clone(),
        }
    }

    /// The counter of renewals that succeeded.
    pub(super) fn renewals(&self) -> Counter {
        self.renewals.clone()
    }

    pub(super) fn renewal_failed(&self, kind: ErrorKind) {
        counter!("registry_renewals_failed_total", "service" => self.service.to_string(), "reason" => kind.to_string())
            .increment(1);
    }

    pub(super) fn repeated(&self) {
        counter!("registry_registrations_repeated_total", "service" => self.service.to_string())
            .increment(1);
    }

    /// Whether the registration counts as active: cheaper to ask than its state, which others read.
    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    pub(super) fn active(&mut self, active: bool) {
        match (self.is_active, active) {
            (false, true) => self.active.increment(1.0),
            (true, false) => self.active.decrement(1.0),
            _ => {}
        }
        self.is_active = active;
    }
}

impl Drop for RegistrationMeters {
    fn drop(&mut self) {
        self.active(false);
    }
}

/// The meters of one view.
pub(super) struct ViewMeters {
    service: ServiceName,
    instances: Gauge,
    retained: Gauge,
    staleness: Gauge,
    lag: Histogram,
    coalesced: Counter,
}

impl ViewMeters {
    pub(super) fn new(service: &ServiceName) -> Self {
        let name = service.to_string();
        Self {
            instances: gauge!("registry_view_instances", "service" => name.clone()),
            retained: gauge!("registry_view_retained", "service" => name.clone()),
            staleness: gauge!("registry_view_staleness_seconds", "service" => name.clone()),
            lag: histogram!("registry_view_lag_batches", "service" => name.clone()),
            coalesced: counter!("registry_view_coalesced_total", "service" => name.clone()),
            service: service.clone(),
        }
    }

    /// The counter of subscribers that got the state in place of the changes.
    pub(super) fn coalesced(&self) -> Counter {
        self.coalesced.clone()
    }

    /// `batches` were waiting.
    pub(super) fn lag(&self, batches: usize) {
        self.lag.record(as_f64(batches));
    }

    /// The watch broke, or could not be mended.
    pub(super) fn disrupted(&self, kind: ErrorKind) {
        counter!("registry_view_disruptions_total", "service" => self.service.to_string(), "reason" => kind.to_string())
            .increment(1);
    }

    /// The service was loaded anew.
    pub(super) fn resynced(&self, reason: ErrorKind) {
        counter!("registry_view_resyncs_total", "service" => self.service.to_string(), "reason" => reason.to_string())
            .increment(1);
    }

    /// A load skipped so many records.
    pub(super) fn undecodable(&self, records: usize) {
        gauge!("registry_view_undecodable", "service" => self.service.to_string())
            .set(as_f64(records));
    }

    pub(super) fn staleness(&self, state: &ViewState) {
        self.staleness.set(match state {
            ViewState::Live => 0.0,
            ViewState::Loading { since } | ViewState::Stale { since, .. } => {
                since.elapsed().as_secs_f64()
            }
        });
    }

    pub(super) fn shown(&self, instances: usize, retained: usize) {
        self.instances.set(as_f64(instances));
        self.retained.set(as_f64(retained));
    }

    /// The view is closed, and shows nothing to anybody.
    pub(super) fn close(&self) {
        self.shown(0, 0);
        self.undecodable(0);
        self.staleness.set(0.0);
    }
}

/// Exact up to 2^53, which is more than memory holds of anything.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: usize) -> f64 {
    count as f64
}
