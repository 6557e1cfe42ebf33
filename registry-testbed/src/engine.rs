//! The engine's suite: tests of registrations and views over every store, under faults.
//!
//! [`suite()`] tests a [`Registration`](registry_engine::Registration) and a
//! [`View`](registry_engine::View) over an [`Environment`]: a store with one connection for publishers
//! and one for subscribers, each with its own faults, and a direct connection. Each test injects
//! another fault. All end with the same checks:
//!
//! * Every registration is active. Every view is live, and shows what a direct load lists and what it retains.
//! * A view never lost a living instance through a fault of the store.
//! * Replaying the updates of a view gives the state of the store at each of their revisions. No update
//!   is repeated or out of order.
//! * Each living instance has one record. After all are stopped, there is no record.
//!
//! The checks have the time [`bounds`] of the suite. A fault that has no effect fails the test.

pub mod bounds;
mod event_log;
mod fault;
mod faults;
mod fixture;
mod observer;
mod oracle;
mod proxies;
mod registrations;
mod suite;
mod views;

pub use self::bounds::SuiteOptions;
pub use self::fault::{Fault, Side};
pub use self::proxies::ProxyPair;
pub use self::suite::suite;

use async_trait::async_trait;
use registry_core::{Registry, ServiceName};
use std::sync::Arc;
use std::time::Duration;

/// A store that only one test uses, with its faults and those of the network.
///
/// A fault without an effect must panic: a run without its fault proves nothing.
#[async_trait]
pub trait Environment: Send + Sync {
    /// Returns the store over the connection of the publishers or the subscribers. Always the same handle.
    fn registry(&self, side: Side) -> Arc<dyn Registry>;

    /// Returns the store over a connection without faults.
    fn direct(&self) -> Arc<dyn Registry>;

    /// Injects `fault`. A [network fault](Fault::is_network_fault) affects the connections of `side`. Other
    /// faults affect the store, and of its data only `service`.
    async fn inject(&self, fault: Fault, side: Side, service: &ServiceName);

    /// Delays the replies to a side until it is healed. Required if the options list [`Fault::Delay`]. A store
    /// without a network may delay requests as well.
    async fn delay_replies(&self, side: Side, by: Duration) {
        panic!("this environment cannot delay replies, side=`{side}`, by=`{by:?}`");
    }

    /// Ends the injected fault, unless it was over at once.
    ///
    /// # Panics
    ///
    /// Panics if the fault had no effect.
    async fn heal(&self);

    /// Injects random faults on both connections for `length`. The same `seed` injects the same faults. They
    /// are over when this returns.
    ///
    /// # Panics
    ///
    /// Panics if none of them had an effect.
    async fn play(&self, seed: u64, length: Duration);
}
