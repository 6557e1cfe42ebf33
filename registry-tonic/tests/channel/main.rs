//! Tests of a channel over real sockets.

#![allow(clippy::unwrap_used)]

mod balancing;
mod failures;
mod lifecycle;
mod support;
mod tls;
