//! What a proxy tells its connections.

use super::fault::Fault;
use std::sync::Arc;

/// What happens to the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    pub(super) fault: Fault,
    /// Counted up with each fault and each heal, to tell one from the next.
    pub(super) injections: u64,
    /// Counted up to end all those that stand.
    pub(super) ends: u64,
    /// How the last of these ends them.
    pub(super) end: End,
    /// Whether what the server says is thrown away.
    pub(super) is_deaf: bool,
    /// What makes it so, in a request.
    pub(super) trigger: Option<Arc<[u8]>>,
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
        let (ends, end) = if self.is_deaf || self.trigger.is_some() {
            (self.ends + 1, End::Cut)
        } else {
            (self.ends, self.end)
        };
        *self = Self { injections: self.injections + 1, ends, end, ..Self::default() };
    }

    /// Looks for the trigger in a request, and says whether it was there.
    pub(super) fn look_at(&mut self, request: &[u8]) -> bool {
        let Some(text) = &self.trigger else { return false };
        let found = text.is_empty() || request.windows(text.len()).any(|part| part == &**text);
        self.is_deaf |= found;
        found
    }
}
