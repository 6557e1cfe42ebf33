//! The engine's suite: what registrations and views must do over every store, under faults.
//!
//! [`suite()`] makes tests of a [`Registration`](registry_engine::Registration) and a
//! [`View`](registry_engine::View) over an [`Environment`]: a store with one connection for publishers,
//! one for subscribers, each with its own faults, and a direct one. Each test injects something else; all
//! end with the same checks:
//!
//! * every registration is active, and every view is live, retains nothing, and equals a direct load;
//! * no state of a view lacked a living instance, where the store was at fault;
//! * the updates of a view, replayed, equal the store at each of their revisions; none is repeated, and
//!   none is out of order;
//! * each living instance has one record, and after all are stopped there is none.
//!
//! All of that happens within the [`bounds`]. A fault that had no effect fails the test.

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

/// A store for one test, not shared with others, with the powers of its operator and of the network.
///
/// A fault that has no effect panics: a run in which nothing happened proves nothing.
#[async_trait]
pub trait Environment: Send + Sync {
    /// The store, over the connection of the publishers or of the subscribers. Always the same handle.
    fn registry(&self, side: Side) -> Arc<dyn Registry>;

    /// The store, over a connection without faults.
    fn direct(&self) -> Arc<dyn Registry>;

    /// Injects `fault`. A [network fault](Fault::is_network_fault) hits the connections of `side`; all
    /// others hit the store, and of its data `service`.
    async fn inject(&self, fault: Fault, side: Side, service: &ServiceName);

    /// Delays the replies to a side until they are healed. A store that can suffer [`Fault::Delay`] has it. A store
    /// without a network may delay requests as well.
    async fn delay_replies(&self, side: Side, by: Duration) {
        panic!("there is no network to delay replies in, side=`{side}`, by=`{by:?}`");
    }

    /// Ends the injected fault, if it lasts.
    ///
    /// # Panics
    ///
    /// If it had no effect.
    async fn heal(&self);

    /// Injects random faults on both connections for `length`, the same for the same `seed`. They have
    /// ended when this returns.
    ///
    /// # Panics
    ///
    /// If none of them had an effect.
    async fn play(&self, seed: u64, length: Duration);
}
