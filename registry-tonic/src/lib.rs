//! gRPC over the service registry: a channel that goes where a service is.
//!
//! A [`Channel`] takes the place of tonic's: any generated client works over it. Its endpoints are the
//! instances that a [`View`](registry_core::View) shows, kept connected, balanced, and left alone
//! when they drain or fail.

mod body;
mod call;
mod channel;
mod endpoint;
mod keeper;
mod link;
mod load;
mod options;
mod picker;
mod status;
mod subset;
mod target;

pub use self::body::ResponseBody;
pub use self::channel::Channel;
pub use self::load::Ejection;
pub use self::options::{ChannelOptions, MakeEndpoint};
pub use self::target::ChannelTarget;
