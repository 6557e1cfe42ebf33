//! Tests of the binary on real servers.

#![allow(clippy::unwrap_used)]

mod doctor_etcd;
mod doctor_redis;
mod hostile;
mod jobs;
mod listing;
mod registering;
mod running;
mod support;
mod usage;
mod watching;
mod wrong_servers;
