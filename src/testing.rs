//! Tools to test a service without a store server: the in-memory store, which runs on tokio's paused clock, and
//! scripted faults.
//!
//! ```
//! use service_registry::testing::{Fault, FaultyRegistry, MemRegistry};
//! use service_registry::{Client, Instance, RegistrationStatus};
//! use std::time::Duration;
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // in a test: #[tokio::test(start_paused = true)]
//! async fn main() -> service_registry::Result<()> {
//!     let store = FaultyRegistry::new(MemRegistry::new());
//!     let client = Client::from_registry(store.clone());
//!     let registration = client.register(Instance::new("user.rpc", ([10, 0, 0, 1], 80).into())?).await?;
//!     let users = client.discover("user.rpc")?;
//!     users.ready(Duration::from_secs(5)).await?;
//!
//!     store.inject(Fault::Outage);
//!     tokio::time::sleep(Duration::from_secs(60)).await; // returns at once: the clock is paused
//!     assert!(matches!(registration.status(), RegistrationStatus::Retrying { .. }));
//!     assert!(users.pick().is_ok()); // an outage empties no view
//!     Ok(())
//! }
//! ```

pub use registry_mem::{Fault, FaultyRegistry, Hits, MemRegistry, Script};
