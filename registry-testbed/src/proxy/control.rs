//! The state that a proxy shares with its connections.

use super::fault::Fault;
use std::sync::Arc;

/// The instructions to the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    pub(super) fault: Fault,
    /// Incremented by each fault and each heal, to distinguish them.
    pub(super) injections: u64,
    /// Incremented to end all open connections.
    pub(super) ends: u64,
    /// How the last increment of `ends` ends them.
    pub(super) end: End,
    /// Whether replies are discarded.
    pub(super) drops_replies: bool,
    /// A text in a request, and the fault that it injects. Without a fault, it starts to discard replies.
    pub(super) trigger: Option<(Arc<[u8]>, Option<Fault>)>,
    /// The text in a request that marks its connection. A heal keeps it.
    pub(super) marker: Option<Arc<[u8]>>,
    /// Incremented to strand the marked connections.
    pub(super) strands: u64,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// One side closed it, or failed.
    #[default]
    Over,
    Cut,
    Reset,
    HalfReply,
    HalfRequest,
    /// The connection stays open, but nothing passes, and neither side is notified.
    Stranded,
}

impl Control {
    pub(super) fn heal(&mut self) {
        // If no replies were lost, keep `end`: connections may not have noticed a reset yet.
        let (ends, end) = if self.drops_replies || matches!(self.trigger, Some((_, None))) {
            (self.ends + 1, End::Cut)
        } else {
            (self.ends, self.end)
        };
        let (injections, strands, marker) = (self.injections + 1, self.strands, self.marker.take());
        *self = Self { injections, ends, end, marker, strands, ..Self::default() };
    }

    /// Returns whether a request marks its connection.
    pub(super) fn is_marked_by(&self, request: &[u8]) -> bool {
        let contains = |text: &Arc<[u8]>| request.windows(text.len()).any(|part| part == &**text);
        self.marker.as_ref().is_some_and(contains)
    }

    /// Returns whether a request contains the trigger. If so, drops replies from now on or injects the fault.
    pub(super) fn match_trigger(&mut self, request: &[u8]) -> bool {
        let Some((text, fault)) = &self.trigger else { return false };
        let found = text.is_empty() || request.windows(text.len()).any(|part| part == &**text);
        match *fault {
            Some(fault) if found => {
                (self.fault, self.trigger) = (fault, None);
                self.injections += 1;
            }
            _ => self.drops_replies |= found,
        }
        found
    }
}
