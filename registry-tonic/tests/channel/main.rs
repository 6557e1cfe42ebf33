//! A channel over real sockets.

mod choice;
mod life;
mod support;
