//! gRPC over the service registry.

mod server;

pub use self::server::{Health, ServeError, ServeOptions, Shutdown, serve};
