//! A service registry for Rust teams: one contract over etcd, Redis and memory.
//!
//! Services register under a name with a lease and keep it alive. Callers load the name and watch it
//! from there, as a versioned stream of changes that can be resumed, and that says so when history is
//! gone. The store is a URL; the contract, and what your tests prove, is the same on each.
//!
//! ```
//! use futures_util::StreamExt;
//! use service_registry::{Change, Claim, Instance, Registry, ServiceName, connect};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> service_registry::Result<()> {
//! let registry = connect("mem://").await?;
//! let service: ServiceName = "user.rpc".parse()?;
//! let snapshot = registry.load(&service).await?;
//! let mut watch = registry.watch(&service, snapshot.cursor()).await?;
//!
//! let instance = Instance::new(service, "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let lease = registry.register(&instance, &Claim::new(Duration::from_secs(10))?).await?;
//! let batch = watch.next().await.expect("a watch goes on")?;
//! assert_eq!(batch.changes, [Change::Put(instance)]);
//!
//! registry.keep_alive(&lease).await?;
//! registry.deregister(&lease).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Stores
//!
//! | URL | feature | what it is |
//! | --- | --- | --- |
//! | `mem://` | `mem` (default) | in this process: tests, examples, single processes |
//! | `etcd://host:2379/prefix` | `etcd` | etcd, tested with 3.4 and 3.5; its build needs protoc |
//! | `redis://user:password@host:6379/0?prefix=name` | `redis` | Redis, tested with 7.0, 8.0 and Valkey 8.1 |
//!
//! The laws that hold on all of them are on [`Registry`].
//!
//! # Test your service without a server
//!
//! Over `mem://` on tokio's paused clock a test waits for no ttl, and needs nothing installed:
//!
//! ```
//! use service_registry::{Claim, Instance, Registry, Result, ServiceName, connect};
//! use std::time::Duration;
//!
//! /// What is under test: picks someone to call.
//! async fn pick(registry: &dyn Registry, service: &ServiceName) -> Result<Option<String>> {
//!     let snapshot = registry.load(service).await?;
//!     Ok(snapshot.instances().iter().next().map(|instance| instance.address().to_string()))
//! }
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // in a test: #[tokio::test(start_paused = true)]
//! async fn main() -> Result<()> {
//!     let registry = connect("mem://").await?;
//!     let service: ServiceName = "user.rpc".parse()?;
//!     let instance = Instance::new(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//!     registry.register(&instance, &Claim::new(Duration::from_secs(10))?).await?;
//!     assert_eq!(pick(&registry, &service).await?.as_deref(), Some("10.0.0.1:8080"));
//!
//!     tokio::time::sleep(Duration::from_secs(10)).await; // the instance died; no time passes for us
//!     assert_eq!(pick(&registry, &service).await?, None);
//!     Ok(())
//! }
//! ```

mod connect;

pub use self::connect::connect;
pub use registry_core::*;

/// The in-memory store, for its operator's powers in tests: compaction, rollback, cut watches.
#[cfg(feature = "mem")]
pub use registry_mem as mem;

/// The etcd store, for its options.
#[cfg(feature = "etcd")]
pub use registry_etcd as etcd;

/// The Redis store, for its options.
#[cfg(feature = "redis")]
pub use registry_redis as redis;

/// The README's example is a test like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
