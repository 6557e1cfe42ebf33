//! What Redis adds to the contract, and what it can do to a registry: against real servers.
//!
//! The laws themselves are checked by the conformance kit. Each test here runs a server of its own,
//! since most of them do to it what an operator or a disaster would.

#![allow(clippy::unwrap_used)]

mod acks;
mod cluster;
mod endurance;
mod expiry;
mod faults;
mod feed;
mod history;
mod loads;
mod operations;
mod renewals;
mod rollback;
mod sentinel;
mod support;
#[cfg(feature = "tls")]
mod tls;
