//! What a channel, its task, its endpoints and its calls share, and never changes.

use crate::metrics::Meters;
use crate::options::ChannelOptions;
use http::HeaderMap;
use std::time::Duration;
use tokio::time::Instant;

/// What a channel, its task, its endpoints and its calls share, and never changes.
pub(crate) struct ChannelContext {
    /// What is called, for messages.
    pub(crate) name: String,
    pub(crate) options: ChannelOptions,
    pub(crate) meters: Meters,
    /// The metadata of the options.
    pub(crate) headers: HeaderMap,
    start: Instant,
}

impl ChannelContext {
    pub(crate) fn new(name: String, meters: Meters, options: ChannelOptions) -> Self {
        let headers = options.metadata.clone().into_headers();
        Self { name, options, meters, headers, start: Instant::now() }
    }

    /// Returns the time as the balancer counts it.
    pub(crate) fn now(&self) -> Duration {
        self.since_start(Instant::now())
    }

    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}
