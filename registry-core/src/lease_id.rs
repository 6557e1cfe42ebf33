//! The ids of leases.
//!
//! Their fallible conversions are in `lease.rs`: an `Error` has a `Holder`, and that a `LeaseId`, so this file must
//! not use `Error`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroI64;

/// The identity of one registration: 1 to `i64::MAX`, drawn by the caller.
///
/// It is the incarnation of an instance and the key to idempotence: to register again under the same
/// id is to repeat, to register under another is to compete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// Wraps a number. `None` unless it is 1 or more.
    pub(crate) fn from_number(id: i64) -> Option<Self> {
        NonZeroI64::new(id).filter(|id| id.get() > 0).map(Self)
    }

    /// Draws 63 bits from the operating system's random source.
    ///
    /// # Panics
    ///
    /// If the operating system has no random source.
    #[must_use]
    pub fn random() -> Self {
        loop {
            let bits = getrandom::u64().expect("the operating system has a random source");
            if let Some(id) = Self::from_number(bits.cast_signed() & i64::MAX) {
                return id;
            }
        }
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0.get()
    }
}

impl From<LeaseId> for i64 {
    fn from(id: LeaseId) -> Self {
        id.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}
