//! Conformance tests that any store can run.
//!
//! * [`conformance`] runs one [`Scenario`] for each clause of each law of
//!   [`Registry`](registry_core::Registry), and random operations in [`lockstep`] with a model. The
//!   author of a store implements [`Subject`] and calls `conformance` from a test with `harness = false`.
//! * [`laws`] checks recorded histories of concurrent runs.
//! * [`case`] and [`contender`] are the helpers that scenarios use.
//! * [`lag`] measures scheduling lag on a busy machine, and extends the time bounds of tests by it.
//!
//! The kit starts no server and injects no fault: the [`Subject`] provides them.
//!
//! Functions here fail a test by a panic if a store violates the contract.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod case;
pub mod contender;
mod harness;
pub mod lag;
pub mod laws;
pub mod lockstep;
mod scenario;
pub mod scenarios;
mod subject;

pub use self::case::Case;
pub use self::harness::conformance;
pub use self::scenario::Scenario;
pub use self::subject::{LostWrites, ReplyLoss, Subject, Traits};
