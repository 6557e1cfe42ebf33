//! A service registry for Rust teams: one contract over etcd, Redis and memory.
//!
//! A service registers under a name and stays registered until it stops, whatever happens to the
//! store. Clients hold a [`View`]: a local, lock-free copy of the service that reports its freshness and
//! survives store outages. A URL names the store; the contract is the same on every store.
//!
//! ```
//! use service_registry::{Instance, connect};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> service_registry::Result<()> {
//! let client = connect("mem://").await?;
//! let mut view = client.discover("user.rpc")?;
//! view.ready(Duration::from_secs(5)).await?;
//!
//! let node = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let registration = client.register(node).await?;
//! view.changed().await?;
//! assert_eq!(view.state().instances().next().unwrap().address().to_string(), "10.0.0.1:8080");
//!
//! registration.stop().await?;
//! view.changed().await?;
//! assert!(view.state().records().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`], its [`Registration`]s and its [`View`]s are what a service needs. Below them is the [`Registry`]: leases,
//! snapshots, and a versioned stream of changes that can be resumed.
//!
//! # Stores
//!
//! | URL | feature | what it is |
//! | --- | --- | --- |
//! | `mem://` | `mem` (default) | in this process: tests, examples, single processes |
//! | `etcd://user:password@host1:2379,host2:2379/prefix` | `etcd` | etcd, tested with 3.4 and 3.5; its build needs protoc |
//! | `etcds://host/prefix?ca=ca.pem&cert=me.pem&key=me.key` | `etcd`, `tls` | the same over TLS |
//! | `redis://user:password@host:6379/0?prefix=name` | `redis` | Redis, tested with 7.0, 8.0 and Valkey 8.1 |
//! | `redis+sentinel://s1:26379,s2:26379/mymaster/0` | `redis` | the primary that the sentinels name |
//! | `redis+cluster://h1:7000,h2:7001` | `redis` | a Cluster |
//! | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | `redis`, `tls` | the same over TLS |
//!
//! The option `ttl` of any URL (`?ttl=5s`) is the default ttl of registrations and views: 10 s without it.
//! The laws that hold on all of them are on [`Registry`].
//!
//! Beside the stores:
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tls` | TLS to the stores that are built in |
//! | `grpc` | gRPC channels that are balanced over a service (module `grpc`) |
//! | `serve` | servers that are registered while they serve (module `serve`), and the address that they publish (module `advertise`) |
//! | `axum` | `serve::Listener` for `axum::serve` |
//! | `go-zero` | configuration files of go-zero, read as they are (module `go_zero`) |
//!
//! # Test your service without a server
//!
//! Over `mem://` on tokio's paused clock a test waits for no ttl, and needs nothing installed:
//!
//! ```
//! use service_registry::{
//!     CallOptions, Claim, Instance, Registry, Result, ServiceName, connect,
//! };
//! use std::time::Duration;
//!
//! /// What is under test: picks someone to call.
//! async fn pick(registry: &dyn Registry, service: &ServiceName) -> Result<Option<String>> {
//!     let snapshot = registry.load(service, &CallOptions::DEFAULT).await?;
//!     Ok(snapshot.instances().next().map(|instance| instance.address().to_string()))
//! }
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // in a test: #[tokio::test(start_paused = true)]
//! async fn main() -> Result<()> {
//!     let client = connect("mem://").await?;
//!     let registry = client.registry();
//!     let service: ServiceName = "user.rpc".parse()?;
//!     let instance = Instance::new(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//!     let claim = Claim::new(Duration::from_secs(10))?;
//!     registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
//!     assert_eq!(pick(registry, &service).await?.as_deref(), Some("10.0.0.1:8080"));
//!
//!     tokio::time::sleep(Duration::from_secs(10)).await; // the instance died; no time passes for us
//!     assert_eq!(pick(registry, &service).await?, None);
//!     Ok(())
//! }
//! ```

#[cfg(feature = "serve")]
pub mod advertise;
#[cfg(feature = "grpc")]
mod channel;
mod client;
mod connect;
mod diagnose;
#[cfg(feature = "go-zero")]
pub mod go_zero;
#[cfg(feature = "serve")]
pub mod serve;

#[cfg(feature = "grpc")]
pub use self::channel::{
    connect_channel, connect_channel_lazy, connect_channel_target, connect_channel_target_lazy,
};
pub use self::client::{Client, ClientBuilder, connect, connect_lazy};
pub use self::connect::{connect_target, connect_target_lazy};
pub use self::diagnose::diagnose;
pub use registry_core::*;
pub use registry_engine::*;

/// The in-memory store, for its operator's powers in tests: compaction, rollback, cut watches.
#[cfg(feature = "mem")]
pub use registry_mem as mem;

/// The etcd store, for its options.
#[cfg(feature = "etcd")]
pub use registry_etcd as etcd;

/// The Redis store, for its options.
#[cfg(feature = "redis")]
pub use registry_redis as redis;

/// gRPC: channels that are balanced over a service.
#[cfg(feature = "grpc")]
pub use registry_tonic as grpc;

/// The README's example is a test like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
