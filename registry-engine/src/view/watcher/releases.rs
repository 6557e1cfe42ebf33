//! The beginning and end of the retention of instances by a view.

use super::Watcher;
use crate::view::report::{Refusal, Release};
use registry_core::Record;
use tokio::time::Instant;

impl Watcher {
    /// Retains instances that the store no longer lists although they were not withdrawn.
    pub(super) fn retain(&mut self, unannounced: Vec<Record>, before: usize, after: usize) {
        let count = unannounced.len();
        if count == 0 || !self.retention.is_on() {
            return;
        }
        self.expire();
        self.retention.deleted(Instant::now(), unannounced, before, after);
        self.metrics.retained(count);
        tracing::info!(service = %self.service, count, listed = after, "the store deleted instances that were not withdrawn: the view retains them");
    }

    pub(super) fn expire(&mut self) {
        let expired = self.retention.expire(Instant::now());
        self.released(expired, Release::Expired);
        self.dirty |= expired > 0;
    }

    pub(super) fn refused(&mut self, Refusal { id, incarnation, at }: &Refusal) {
        let ends = self.retention.refused(id, *incarnation, *at);
        self.released(usize::from(ends), Release::Refused);
        self.dirty |= ends;
    }

    pub(super) fn released(&self, count: usize, why: Release) {
        if count > 0 {
            self.metrics.released(count, why);
            tracing::info!(service = %self.service, count, why = why.name(), "instances are no longer retained");
        }
    }
}
