//! Logs undecodable records once, since another program may write thousands of them.

use registry_core::{InstanceId, ServiceName, printable};

/// The undecodable records of a load.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    pub(crate) count: usize,
    /// One of them and the reason, or `None` if none has a valid name.
    pub(crate) example: Option<(InstanceId, String)>,
}

impl Skipped {
    /// Logs all of them in one line.
    pub(crate) fn warn(&self, service: &ServiceName) {
        if self.count == 0 {
            return;
        }
        let (service, undecodable) = (printable(service.as_str()), self.count);
        let (id, why) =
            self.example.as_ref().map_or(("?", "not a valid name"), |(id, why)| (id.as_str(), why));
        let (id, why) = (printable(id), printable(why));
        tracing::warn!(%service, undecodable, %id, %why, "skipped records that cannot be decoded, such as this one");
    }
}

/// Logs the first undecodable record of a watch.
pub(crate) fn warn_once(has_warned: &mut bool, service: &ServiceName, id: &InstanceId, why: &str) {
    if !std::mem::replace(has_warned, true) {
        let (service, id, why) =
            (printable(service.as_str()), printable(id.as_str()), printable(why));
        tracing::warn!(%service, %id, %why, "skipped a record that cannot be decoded; others in this watch are not logged");
    }
}
