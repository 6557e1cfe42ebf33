//! The engine of the service registry: registrations and views over any [`Registry`](registry_core::Registry).
//!
//! A call to a store is one request with one answer; the engine retries requests, renews leases and resumes watches.
//! A [`Registration`] keeps an instance registered until it is stopped. A [`Discovery`] opens [`View`]s of services.

mod backoff;
mod bounds;
mod call;
mod discovery;
mod failures;
mod follow;
pub mod metrics;
mod registration;
mod view;

pub use self::backoff::Backoff;
pub use self::discovery::Discovery;
pub use self::follow::{FollowEvent, FollowOptions, follow};
pub use self::registration::{
    Registration, RegistrationOptions, RegistrationStatus, Start, Starting, TaskHandle,
};
pub use self::view::{
    DiscoveryOptions, Failure, Reader, Retained, ServiceState, StateRef, Update, Updates, View,
    ViewStatus,
};
