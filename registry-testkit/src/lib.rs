//! What every registry store must do, as tests that any store can run.
//!
//! * [`conformance`] runs every [`Scenario`], one for each clause of each law of
//!   [`Registry`](registry_core::Registry), and random runs in [`lockstep`] with the model. The author
//!   of a store implements [`Subject`] and calls it from a test with `harness = false`.
//! * [`laws`] checks recorded histories, whatever ran concurrently.
//! * [`case`] and [`contender`] are what scenarios are written with.
//! * [`lag`] measures what a busy machine takes from a test, and grows its time bounds by that.
//!
//! The kit starts no server and injects no fault: a [`Subject`] brings its own.
//!
//! Functions here panic where a store does not do what it must: that is how a test fails.

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
