//! What every registry store must do, as tests that any store can run.
//!
//! * [`conformance`] runs every [`Scenario`], one for each clause of each law of
//!   [`Registry`](registry_core::Registry), and random runs in [`lockstep`] with the model. The author
//!   of a store implements [`Subject`] and calls it from a test with `harness = false`.
//! * [`engine`] holds registrations and views over a store to what they promise, under faults.
//! * [`Endurance`] is a long random run over connections that are cut all the time.
//! * [`laws`] checks recorded histories, whatever ran concurrently.
//! * [`proxy`] injects faults between a registry and its server: it delays, cuts, refuses, loses.
//! * [`servers`] finds or starts the real servers to test against.
//!
//! Functions here panic where a store does not do what it must: that is how a test fails.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod case;
mod endurance;
pub mod engine;
mod harness;
pub mod laws;
pub mod lockstep;
pub mod proxy;
mod rival;
pub mod scenarios;
pub mod servers;
mod sizes;
mod subject;

pub use self::case::Case;
pub use self::endurance::{Endurance, Endured};
pub use self::harness::{Scenario, conformance};
pub use self::sizes::call_sizes;
pub use self::subject::{LostWrites, Subject, Traits};
