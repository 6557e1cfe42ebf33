//! Tests of what is specific to the Redis store, against real servers.
//!
//! The conformance kit checks the contract. Each test here runs its own server, since most of them disturb it.

#![allow(clippy::unwrap_used)]

mod acks;
mod calls;
mod cluster;
mod endurance;
mod expiry;
mod faults;
mod feed;
mod foreign;
mod golden;
mod history;
mod lazy;
mod loads;
mod operations;
mod own_records;
mod peers;
mod records;
mod renewals;
mod rights;
mod rollback;
mod runtimes;
mod sentinel;
mod strays;
mod support;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
