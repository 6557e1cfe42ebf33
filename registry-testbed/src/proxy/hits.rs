//! Counts of what the faults did.

use super::control::End;
use std::sync::{Mutex, PoisonError};

/// What the faults of a proxy did, since it was started.
///
/// Each is counted before a client or the server can notice. What the kernel does by itself is not
/// in it: how many connections were refused, or were not yet accepted when the listener was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hits {
    /// Chunks of bytes that had to wait for [`Fault::Delay`](super::Fault::Delay).
    pub delayed_chunks: u64,
    /// The bytes in them.
    pub delayed_bytes: u64,
    /// Bytes that had to wait for [`Fault::Throttle`](super::Fault::Throttle).
    pub throttled_bytes: u64,
    /// Connections that came to a halt in a [`Fault::Blackhole`](super::Fault::Blackhole), once for
    /// each injection.
    pub frozen_connections: u64,
    /// Directions of a connection in which bytes were seen to be held up by it, each time.
    pub held_directions: u64,
    /// Chunks that [`Fault::Slice`](super::Fault::Slice) cut into pieces.
    pub sliced_chunks: u64,
    /// Connections that [`Fault::CutAfter`](super::Fault::CutAfter) closed.
    pub half_replies: u64,
    /// Connections that [`Fault::CutRequestsAfter`](super::Fault::CutRequestsAfter) closed.
    pub half_requests: u64,
    /// Times that [`Fault::Refuse`](super::Fault::Refuse) closed the listener. Whom the kernel
    /// refuses meanwhile nobody counts: the test sees `ConnectionRefused`.
    pub closed_listeners: u64,
    /// Connections that [`Fault::AcceptThenReset`](super::Fault::AcceptThenReset) reset.
    pub rejected: u64,
    /// Connections that were cut, those too that a heal cut since replies were lost.
    pub cut: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Connections that were stranded.
    pub stranded: u64,
    /// Frames that [`Fault::SilentStreams`](super::Fault::SilentStreams) dropped.
    pub dropped_frames: u64,
    /// Bytes of replies that were lost.
    pub lost_bytes: u64,
}

/// The counters, shared by the connections.
#[derive(Debug, Default)]
pub(super) struct HitCounter(Mutex<Hits>);

impl HitCounter {
    pub(super) fn hits(&self) -> Hits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, count: impl FnOnce(&mut Hits)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a connection that ended.
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
