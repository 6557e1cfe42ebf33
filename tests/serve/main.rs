//! Tests of `serve` on real sockets: what clients and the store see of a server, and in which order.
#![cfg(all(feature = "serve", feature = "mem"))]
#![allow(clippy::unwrap_used)]

mod check;
mod failures;
mod http;
mod life;
mod listener;
mod support;
