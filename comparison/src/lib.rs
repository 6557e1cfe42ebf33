//! Measurements of the registry on etcd, Redis and in memory, beside raw clients and other libraries.
//!
//! An arm is a way to do something, a workload is an operation on it, and an experiment combines both. The README
//! describes the measurements and their limits.

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
