//! Measurement of the registry on etcd, Redis and in memory, with raw clients and other libraries beside it.
//!
//! An arm is one way to do something, a workload is what is done with it, and an experiment names both. The
//! README says what is measured and what is not.

#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "only the programs beside it use it"
)]
#![allow(clippy::exhaustive_enums, clippy::missing_panics_doc, reason = "the same")]

pub mod arms;
pub mod experiments;
pub mod harness;
pub mod report;
pub mod workloads;
