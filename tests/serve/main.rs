//! What others see of a server, and in which order, on real sockets.
#![cfg(all(feature = "serve", feature = "mem"))]
#![allow(clippy::unwrap_used)]

mod check;
mod failures;
mod http;
mod life;
mod listener;
mod support;
