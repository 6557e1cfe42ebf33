//! The engine: what a service uses, over any [`Registry`](registry_core::Registry).
//!
//! A store makes one request and gives one answer; all patience is here. [`Registration`] keeps an
//! instance registered until it is stopped, [`Discovery`] keeps a [`View`] of each service that is asked for.

mod backoff;
mod board;
mod cold_start;
mod discovery;
mod follow;
mod keeper;
pub mod metrics;
mod orders;
mod pulse;
mod registration;
mod renewals;
mod retain;
mod updates;
mod view;
mod viewer;

pub use self::backoff::Backoff;
pub use self::discovery::{Discovery, DiscoveryOptions};
pub use self::follow::{Pace, Step, follow};
pub use self::registration::{Registration, RegistrationOptions, RegistrationState, Start};
pub use self::retain::Retained;
pub use self::updates::{Update, Updates};
pub use self::view::{Picture, PictureRef, Reader, View, ViewState};
