//! Counts of the effects of faults.

use super::control::End;
use std::sync::{Mutex, PoisonError};

/// Counts of the effects of a proxy's faults since its start.
///
/// An effect is counted before a client or the server can notice it. Effects in the kernel are not counted:
/// refused connections, and connections that were not yet accepted when the listener was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hits {
    /// Chunks that [`Fault::Delay`](super::Fault::Delay) or [`Fault::DelayReplies`](super::Fault::DelayReplies)
    /// delayed.
    pub delayed_chunks: u64,
    /// The bytes in these chunks.
    pub delayed_bytes: u64,
    /// Bytes that [`Fault::Throttle`](super::Fault::Throttle) throttled.
    pub throttled_bytes: u64,
    /// Connections with a [`Fault::Blackhole`](super::Fault::Blackhole), counted once for each injection.
    pub frozen_connections: u64,
    /// Directions of a connection in which a blackhole held up bytes, counted each time.
    pub held_directions: u64,
    /// Chunks that [`Fault::Slice`](super::Fault::Slice) cut into pieces.
    pub sliced_chunks: u64,
    /// Connections that [`Fault::CutAfter`](super::Fault::CutAfter) closed.
    pub half_replies: u64,
    /// Connections that [`Fault::CutRequestsAfter`](super::Fault::CutRequestsAfter) closed.
    pub half_requests: u64,
    /// How often [`Fault::Refuse`](super::Fault::Refuse) closed the listener. The connections that the kernel
    /// refuses are not counted.
    pub closed_listeners: u64,
    /// Connections that [`Fault::AcceptThenReset`](super::Fault::AcceptThenReset) reset.
    pub rejected: u64,
    /// Connections that were cut, including those that a heal cut since replies were lost.
    pub cut: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Connections that were stranded.
    pub stranded: u64,
    /// Frames that [`Fault::SilentStreams`](super::Fault::SilentStreams) dropped.
    pub dropped_frames: u64,
    /// Lost bytes of replies.
    pub lost_bytes: u64,
}

/// The counters, shared by all connections.
#[derive(Debug, Default)]
pub(super) struct HitCounter(Mutex<Hits>);

impl HitCounter {
    pub(super) fn hits(&self) -> Hits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, count: impl FnOnce(&mut Hits)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts the end of a connection.
    pub(super) fn count(&self, end: End) {
        self.add(|hits| match end {
            End::Over => {}
            End::Cut => hits.cut += 1,
            End::Reset => hits.reset += 1,
            End::HalfReply => hits.half_replies += 1,
            End::HalfRequest => hits.half_requests += 1,
            End::Stranded => hits.stranded += 1,
        });
    }
}
