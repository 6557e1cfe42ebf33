//! What the tests of this workspace run against: real servers, and the faults of a network.
//!
//! * [`servers`] finds or starts the real servers to test against.
//! * [`proxy`] injects faults between a registry and its server: it delays, cuts, refuses, loses.
//! * [`engine`] holds registrations and views over a store to what they promise, under faults.
//! * [`Warnings`] keeps the warnings that a test logs.
//! * [`Trace`] keeps all that is traced, to search it for secrets.
//! * [`Soak`] is a long random run over connections that are cut all the time.
//!
//! The laws of a store are in [`registry_testkit`], which needs none of this.
//!
//! Functions here panic where the code under test does not do what it must: that is how a test fails.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod engine;
pub mod proxy;
pub mod servers;
mod sizes;
mod soak;
mod trace;
mod warnings;

pub use self::sizes::call_sizes;
pub use self::soak::{Soak, SoakReport};
pub use self::trace::Trace;
pub use self::warnings::Warnings;
