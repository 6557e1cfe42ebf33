//! What is etcd's own about the registry, against a real server for each test.
//!
//! What every store must do is tested by the conformance kit.

#![allow(clippy::unwrap_used)]

mod connection;
mod go_zero;
mod go_zero_pairs;
mod grpc;
mod history;
mod leases;
mod reads;
mod registration;
mod support;
mod watches;
