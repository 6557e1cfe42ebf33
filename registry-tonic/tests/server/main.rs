//! What others see of a server, and in which order, on real sockets.
#![allow(clippy::unwrap_used)]

mod failures;
mod life;
mod support;
