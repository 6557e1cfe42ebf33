//! What channels tell the facade of the crate `metrics`, as the engine does in
//! [`registry_engine::metrics`]. Of several channels of one service, gauges are those of the one that
//! changed last.
//!
//! | name | kind | labels | what it is |
//! | --- | --- | --- | --- |
//! | `registry_channel_wanted` | gauge | `service` | endpoints that are to be connected to |
//! | `registry_channel_connected` | gauge | `service` | endpoints that are connected to, and get calls |
//! | `registry_channel_connect_failures_total` | counter | `service` | connections that could not be made |
//! | `registry_channel_ejections_total` | counter | `service` | times an endpoint got no calls for a while, since it kept failing |
//! | `registry_channel_replays_total` | counter | `service` | calls that no endpoint had looked at, and that went to another |

use metrics::{Counter, Gauge, counter, gauge};

/// The meters of one channel, looked up once.
pub(crate) struct Meters {
    wanted: Gauge,
    connected: Gauge,
    connect_failures: Counter,
    ejections: Counter,
    replays: Counter,
}

impl Meters {
    pub(crate) fn new(service: &str) -> Self {
        let name = || service.to_owned();
        Self {
            wanted: gauge!("registry_channel_wanted", "service" => name()),
            connected: gauge!("registry_channel_connected", "service" => name()),
            connect_failures: counter!("registry_channel_connect_failures_total", "service" => name()),
            ejections: counter!("registry_channel_ejections_total", "service" => name()),
            replays: counter!("registry_channel_replays_total", "service" => name()),
        }
    }

    #[allow(clippy::cast_precision_loss)] // there are no 2^53 endpoints
    pub(crate) fn endpoints(&self, wanted: usize, connected: usize) {
        self.wanted.set(wanted as f64);
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
