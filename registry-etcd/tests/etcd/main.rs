//! Tests of what is specific to the etcd store, each with a real server.
//!
//! The conformance kit tests what every store must do.

#![allow(clippy::unwrap_used)]

mod auth;
mod cluster;
mod connection;
mod custom_layout;
mod go_zero;
mod go_zero_side_keys;
mod grpc;
mod history;
mod impatience;
mod kratos;
mod lazy;
mod leases;
mod members;
mod other_layouts;
mod own_record;
mod partial_messages;
mod reads;
mod registration;
mod roles;
mod round_trips;
mod runtimes;
mod soak;
mod space;
mod streams;
mod support;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
mod watches;
mod wire;
mod withdrawal;
#[cfg(feature = "tls")]
mod wrong_servers;
