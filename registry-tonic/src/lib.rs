//! gRPC over the service registry.

mod target;

pub use self::target::ChannelTarget;
