//! What the engine must do over every store, under faults, as tests that any store can run.
//!
//! [`suite`] makes trials of a [`Registration`](registry_engine::Registration) and a
//! [`View`](registry_engine::View) over an [`Arena`]: a store that can be seen on the ways of a publisher
//! and of a subscriber, each with faults of its own, and directly. What a trial does differs; how it
//! ends is the same for all:
//!
//! * every registration is active, and every view is live, retains nothing, and equals a direct load;
//! * no picture of a view that anybody saw lacked a living instance, where the store was at fault;
//! * what a view's updates add up to was the truth at each of its revisions, nothing came twice, and
//!   nothing out of order;
//! * each living instance has one record, and once all are stopped there is none.
//!
//! All of that within the [`bounds`]. A fault that took no effect fails the trial.

pub mod bounds;
mod diary;
mod fault;
mod faults;
mod follower;
mod owners;
mod scene;
mod trials;
mod viewers;
mod ways;
mod witness;

pub use self::bounds::Terms;
pub use self::fault::{Fault, Side};
pub use self::trials::suite;
pub use self::ways::Ways;

use async_trait::async_trait;
use registry_core::{Registry, ServiceName};
use std::sync::Arc;
use std::time::Duration;

/// A store for one trial, used by nobody else, with the powers of its operator and of the network.
///
/// A fault that took no effect panics: a run in which nothing happened proves nothing.
#[async_trait]
pub trait Arena: Send + Sync {
    /// The store, on the way of the publishers or of the subscribers. Always the same handle.
    fn registry(&self, side: Side) -> Arc<dyn Registry>;

    /// The store, around all that is wrong with the ways to it.
    fn direct(&self) -> Arc<dyn Registry>;

    /// Begins `fault`. One of a [way](Fault::is_on_a_way) hits the ways of `side`; all others hit the
    /// store, and of it `service`.
    async fn strike(&self, fault: Fault, side: Side, service: &ServiceName);

    /// Ends what was struck, if it goes on.
    ///
    /// # Panics
    ///
    /// If it took no effect.
    async fn heal(&self);

    /// Random faults on both ways for `length`, the same for the same `seed`. They have ended when this
    /// returns.
    ///
    /// # Panics
    ///
    /// If none of them took effect.
    async fn play(&self, seed: u64, length: Duration);
}
