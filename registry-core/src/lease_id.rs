//! Lease ids.
//!
//! The fallible conversions are in `lease.rs`. An `Error` contains a `Holder`, which contains a `LeaseId`, so this file
//! must not use `Error`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroI64;

/// The identity of one registration: a number from 1 to `i64::MAX` that the caller draws.
///
/// It identifies one incarnation of an instance, and makes `register` idempotent: a call with the same lease id repeats
/// the registration, a call with another lease id competes for the instance id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// Wraps a number. Returns `None` if it is below 1.
    pub(crate) fn from_number(id: i64) -> Option<Self> {
        NonZeroI64::new(id).filter(|id| id.get() > 0).map(Self)
    }

    /// Returns a random id of 63 bits from the operating system's random source.
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

    /// Returns the number.
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
