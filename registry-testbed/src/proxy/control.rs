//! The state that a proxy shares with its connections.

use super::fault::Fault;
use std::sync::Arc;

/// What the connections are to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    pub(super) fault: Fault,
    /// Incremented with each fault and each heal, to tell one from the next.
    pub(super) injections: u64,
    /// Incremented to end all open connections.
    pub(super) ends: u64,
    /// How the last of these ends them.
    pub(super) end: End,
    /// Whether replies are discarded.
    pub(super) drops_replies: bool,
    /// The text in a request that starts that, or the fault that it injects instead.
    pub(super) trigger: Option<(Arc<[u8]>, Option<Fault>)>,
    /// The text in a request that marks its connection. A heal leaves it.
    pub(super) marker: Option<Arc<[u8]>>,
    /// Incremented to strand the connections that are marked.
    pub(super) strands: u64,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// By itself: one side closed it, or failed.
    #[default]
    Over,
    Cut,
    Reset,
    HalfReply,
    HalfRequest,
    /// Neither side hears of it.
    Stranded,
}

impl Control {
    pub(super) fn heal(&mut self) {
        // That it is a cut is not for those that still have to notice a reset.
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

    /// Whether a request contains the trigger. If so, replies are dropped from now on, or its fault is injected.
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
