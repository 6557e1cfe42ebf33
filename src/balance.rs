//! How a view picks an instance: options, outcomes, ejection.
//!
//! The rules are those of [`registry_balance`]: two instances are drawn by weight, and the better one by latency and calls in
//! flight is picked. One that fails several times in a row is ejected: it takes no calls for a while, and then one call
//! probes it. At least half of the instances always take calls.

mod picker;

pub(crate) use self::picker::{Call, Picker};
pub use registry_balance::Ejection;

use crate::InstanceId;

/// Options of one pick.
///
/// ```
/// use service_registry::balance::PickOptions;
///
/// let options = PickOptions::default().with_exclude(["node-1".parse()?]);
/// # Ok::<(), service_registry::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PickOptions {
    /// The instances that are not picked, such as those that have just failed this request.
    pub exclude: Vec<InstanceId>,
    /// Picks the same instance for the same number, as a cache or a session wants it. When an instance comes or goes, or is
    /// ejected, only its own share of the numbers moves. Takes time linear in the instances.
    pub hash: Option<u64>,
}

impl PickOptions {
    /// Sets the instances that are not picked.
    #[must_use]
    pub fn with_exclude(mut self, exclude: impl IntoIterator<Item = InstanceId>) -> Self {
        self.exclude = exclude.into_iter().collect();
        self
    }

    /// Sets the [hash](Self::hash) of what the call is about.
    #[must_use]
    pub fn with_hash(mut self, hash: u64) -> Self {
        self.hash = Some(hash);
        self
    }
}

/// The outcome of a call, as far as it tells of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance serves. Its latency counts, and its row of failures is over.
    Success,
    /// The instance failed the call.
    Failure(Failure),
    /// The call says nothing of the instance.
    Neutral,
}

/// Why an instance failed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The connection was refused: nothing listens at the address. An instance that the store no longer lists is let go at
    /// once.
    Refused,
    /// The instance did not answer in time.
    TimedOut,
    /// The connection broke, or the answer was an error of the server.
    Other,
}

impl From<Outcome> for registry_balance::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure(Failure::TimedOut) => Self::TimedOut,
            Outcome::Failure(_) => Self::Failure,
            Outcome::Neutral => Self::Neutral,
        }
    }
}
