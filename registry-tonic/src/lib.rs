//! gRPC over the service registry: a channel that goes where a service is.
//!
//! A [`Channel`] takes the place of tonic's: any generated client works over it. Its endpoints are
//! the instances that a [`View`](registry_engine::View) shows, kept connected, balanced, and left
//! alone when they drain or fail.
//!
//! [`Health`] reports to gRPC clients whether a server serves.
//!
//! Types of [`tonic`] stand in signatures here, so this crate follows its major versions.

mod body;
mod call;
mod channel;
mod classify;
mod clock;
mod connection;
mod connector;
mod context;
mod endpoint;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
pub mod metrics;
mod options;
mod replay;
mod state;
mod status;
mod target;
mod task;
mod wait;

pub use self::body::ResponseBody;
pub use self::channel::Channel;
pub use self::classify::{CallEnd, Classify};
pub use self::health::Health;
pub use self::options::{ChannelOptions, MakeEndpoint};
pub use self::target::ChannelTarget;
pub use registry_balance::{Ejection, Outcome};
