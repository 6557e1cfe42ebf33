//! Benchmarks of etcd, Redis and memory as a service registry, and of the raw clients beside them.
//!
//! `cargo bench` runs them: criterion for each operation, then a table of paired runs, whose ratios hold
//! where absolute times do not. The README says what is measured and what is not.

pub mod arms;
pub mod calls;
pub mod experiments;
pub mod figures;
pub mod latch;
pub mod levels;
pub mod machine;
pub mod meter;
pub mod observers;
pub mod operator;
pub mod paired;
pub mod percentiles;
pub mod report;
pub mod sections;
pub mod stores;
pub mod table;
pub mod workloads;
