//! etcd, Redis and memory as a service registry, measured; and the raw clients beside them.
//!
//! `cargo bench` runs it: criterion for each operation, then a table of paired runs, whose ratios hold
//! where absolute times do not. What is measured and what is not stands in the README.

pub mod arms;
pub mod arrivals;
pub mod calls;
pub mod experiments;
pub mod facts;
pub mod figures;
pub mod levels;
pub mod meter;
pub mod observers;
pub mod operator;
pub mod paired;
pub mod percentiles;
pub mod report;
pub mod sections;
pub mod stores;
pub mod table;
pub mod work;
