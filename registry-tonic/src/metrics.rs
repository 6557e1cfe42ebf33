//! What channels tell the facade of the crate `metrics`, as the engine does in
//! [`registry_engine::metrics`]. Of several channels of one service, gauges are those of the one that
//! changed last.
//!
//! | name | kind | labels | what it is |
//! | --- | --- | --- | --- |
//! | `registry_channel_endpoints` | gauge | `service` | endpoints of the channel, connected or not |
//! | `registry_channel_connected` | gauge | `service` | endpoints that are connected and take calls |
//! | `registry_channel_connect_failures_total` | counter | `service` | failed attempts to connect |
//! | `registry_channel_ejections_total` | counter | `service` | ejections of endpoints after consecutive failures |
//! | `registry_channel_replays_total` | counter | `service` | calls that no endpoint had processed, and that were retried on another |

use metrics::{Counter, Gauge, counter, gauge};

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
