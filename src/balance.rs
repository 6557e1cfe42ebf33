//! The options and outcomes of a pick, and the ejection of failing instances.
//!
//! The rules are those of [`registry_balance`]: two instances are drawn by weight, and the one with the lower latency and
//! fewer calls in flight wins. An instance that fails several times in a row is ejected: it takes no calls for a while,
//! and then one call probes it. At least half of the instances always take calls.

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
    /// The instances to exclude, such as those that have already failed this request.
    pub exclude: Vec<InstanceId>,
    /// Picks the same instance for the same hash, as caches and sessions need. If an instance is added, removed or
    /// ejected, only hashes from and to that instance move. Such a pick takes time linear in the instances.
    pub hash: Option<u64>,
}

impl PickOptions {
    /// Sets the instances to exclude.
    #[must_use]
    pub fn with_exclude(mut self, exclude: impl IntoIterator<Item = InstanceId>) -> Self {
        self.exclude = exclude.into_iter().collect();
        self
    }

    /// Sets the [hash](Self::hash) to pick by.
    #[must_use]
    pub fn with_hash(mut self, hash: u64) -> Self {
        self.hash = Some(hash);
        self
    }
}

/// The outcome of a call, as far as it concerns the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance works. The latency counts, and the count of consecutive failures is reset.
    Success,
    /// The instance failed the call.
    Failure(Failure),
    /// The call tells nothing about the instance.
    Neutral,
}

/// Why an instance failed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The connection was refused: nothing listens at the address. If the view merely retains the instance, it is removed
    /// at once.
    Refused,
    /// The instance did not answer in time.
    TimedOut,
    /// The connection broke, or the server returned an error.
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
