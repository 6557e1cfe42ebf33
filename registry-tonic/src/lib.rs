//! gRPC over the service registry: a channel that goes where a service is, and servers that are
//! found.
//!
//! A [`Channel`] takes the place of tonic's: any generated client works over it. Its endpoints are
//! the instances that a [`View`](registry_engine::View) shows, kept connected, balanced, and left
//! alone when they drain or fail.
//!
//! [`serve`] runs a server, of tonic or axum, that is registered while it serves.
//!
//! Types of [`tonic`] stand in signatures here, so this crate follows its major versions.

mod body;
mod call;
mod channel;
mod clock;
mod connection;
mod connector;
mod context;
mod endpoint;
pub mod metrics;
mod options;
mod replay;
mod server;
mod state;
mod status;
mod target;
mod task;
mod wait;

pub use self::body::ResponseBody;
pub use self::channel::Channel;
pub use self::options::{ChannelOptions, MakeEndpoint};
pub use self::server::{Health, ServeError, ServeOptions, Shutdown, serve};
pub use self::target::ChannelTarget;
pub use registry_balance::Ejection;
