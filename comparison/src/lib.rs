//! Measurements of the registry on etcd, Redis and in memory, compared with raw clients and other libraries.
//!
//! An arm is one implementation to compare, a workload is an operation on an arm, and an experiment combines both. The
//! README describes the measurements and their limits.

#![allow(missing_docs, missing_debug_implementations, reason = "only its own programs use it")]
#![allow(clippy::exhaustive_enums, clippy::missing_panics_doc, reason = "the same")]

pub mod arms;
pub mod experiments;
pub mod harness;
pub mod report;
pub mod workloads;
