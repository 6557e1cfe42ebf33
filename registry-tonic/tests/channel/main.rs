//! A channel over real sockets.

#![allow(clippy::unwrap_used)]

mod choice;
mod life;
mod support;
mod tls;
