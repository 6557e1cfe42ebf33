//! gRPC over the service registry: a balanced channel to the instances of a service.
//!
//! A [`Channel`] replaces tonic's: any generated client works over it. It keeps a connection to each
//! instance that a [`View`](registry_engine::View) shows, balances calls over them, and avoids
//! instances that drain or fail.
//!
//! [`Health`] reports to gRPC clients whether a server serves.
//!
//! Types of [`tonic`] appear in public signatures, so this crate follows tonic's major versions.

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
