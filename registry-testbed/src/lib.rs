//! Test fixtures of this workspace: real servers, and network faults.
//!
//! * [`servers`] finds or starts the real servers to test against.
//! * [`proxy`] injects network faults between a registry and its server.
//! * [`engine`] tests the guarantees of registrations and views over a store, under faults.
//! * [`Warnings`] records the warnings that a test logs.
//! * [`Trace`] records everything that is traced, to search it for secrets.
//! * [`Soak`] is a long random run over connections that are disturbed all the time.
//!
//! The laws of a store are tested by [`registry_testkit`], which does not depend on this crate.
//!
//! Functions here fail a test by a panic if the code under test misbehaves.

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
