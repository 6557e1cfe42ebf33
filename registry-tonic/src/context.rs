//! The immutable context of a channel.

use crate::metrics::Meters;
use crate::options::ChannelOptions;
use http::HeaderMap;
use std::time::Duration;
use tokio::time::Instant;

/// The immutable context that a channel shares with its task, endpoints and calls.
pub(crate) struct ChannelContext {
    /// The service or addresses that the channel calls, for messages.
    pub(crate) name: String,
    pub(crate) options: ChannelOptions,
    pub(crate) meters: Meters,
    /// The metadata of the options, as headers.
    pub(crate) headers: HeaderMap,
    start: Instant,
}

impl ChannelContext {
    pub(crate) fn new(name: String, meters: Meters, options: ChannelOptions) -> Self {
        let headers = options.metadata.clone().into_headers();
        Self { name, options, meters, headers, start: Instant::now() }
    }

    /// Returns the current time since the channel was created, as the balancer expects it.
    pub(crate) fn now(&self) -> Duration {
        self.since_start(Instant::now())
    }

    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}
