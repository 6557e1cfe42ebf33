//! A service registry for Rust teams: one contract over etcd, Redis and memory.
//!
//! A service registers under a name and stays registered until it stops, whatever happens to the
//! store. Its callers hold a [`View`]: a local, lock-free copy of the service that reports its freshness and
//! survives store outages, and [picks](View::pick) an instance for each call. A URL names the store.
//!
//! ```
//! # use service_registry::{Instance, connect};
//! # use std::time::Duration;
//! # struct Http;
//! # impl Http {
//! #     async fn get(&self, url: String) -> std::io::Result<String> { Ok(url) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (http, listener) = (Http, std::net::TcpListener::bind("127.0.0.1:0")?);
//! let client = connect("mem://demo").await?; // or etcd://127.0.0.1:2379?ttl=5s, redis://127.0.0.1:6379
//! let registration = client.register(Instance::new("user.rpc", listener.local_addr()?)?).await?; // a server, once it listens
//!
//! let users = client.discover("user.rpc")?; // a caller
//! users.ready(Duration::from_secs(5)).await?; // the store has answered; there may be no instance yet
//! let user = users.pick()?; // one of the available instances; a draining one is never picked
//! let body = user.observe(http.get(format!("http://{}/7", user.address()))).await?; // outcome and latency feed the next pick
//!
//! registration.drain(Duration::from_secs(1)).await?;
//! # assert!(body.ends_with("/7"));
//! # Ok(())
//! # }
//! ```
//!
//! Most services need only [`Client`], [`Registration`] and [`View`]. The store contract below them (leases, snapshots,
//! resumable watches) is in [`store`].
//!
//! # Stores
//!
//! | URL | feature | what it is |
//! | --- | --- | --- |
//! | `mem://name` | `mem` (default) | an in-memory store for tests, examples and single processes |
//! | `etcd://user:password@host1:2379,host2:2379/prefix` | `etcd` | etcd, tested with 3.4 to 3.7; its build needs protoc |
//! | `etcds://host/prefix?ca=ca.pem&cert=me.pem&key=me.key` | `etcd`, `tls` | the same over TLS |
//! | `redis://user:password@host:6379/0?prefix=name` | `redis` | Redis, tested with 7.0, 8.0 and Valkey 8.1 |
//! | `redis+sentinel://s1:26379,s2:26379/mymaster/0` | `redis` | the primary that the sentinels name |
//! | `redis+cluster://h1:7000,h2:7001` | `redis` | a Cluster |
//! | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | `redis`, `tls` | the same over TLS |
//!
//! The URL option `ttl` (`?ttl=5s`) sets the default ttl of registrations and views; without it, the default is 10 s.
//! [`store::Registry`] states the laws that every store keeps.
//!
//! Other features:
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tls` | TLS connections to etcd and Redis |
//! | `grpc` | gRPC channels that balance calls over the instances of a service (module `grpc`) |
//! | `http` | a tower layer that balances HTTP requests, and a `Discover` stream (module `http`) |
//! | `serve` | runs a server and keeps it registered while it serves (module `serve`) |
//! | `axum` | makes `serve::Listener` usable with `axum::serve` |
//! | `go-zero` | reads go-zero configuration files unchanged (module `go_zero`) |
//!
//! The module [`testing`] helps to test a service without a store server.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod advertise;
pub mod balance;
mod client;
pub mod config;
mod connectors;
pub mod diagnosis;
#[cfg(feature = "go-zero")]
#[cfg_attr(docsrs, doc(cfg(feature = "go-zero")))]
pub mod go_zero;
#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub mod grpc;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
mod pick;
#[cfg(feature = "serve")]
#[cfg_attr(docsrs, doc(cfg(feature = "serve")))]
pub mod serve;
pub mod store;
#[cfg(feature = "mem")]
#[cfg_attr(docsrs, doc(cfg(feature = "mem")))]
pub mod testing;
mod view;

pub use self::client::{Client, ClientBuilder, connect};
pub use self::pick::Pick;
pub use self::view::{View, ViewOptions};
#[doc(inline)]
pub use registry_core::{
    Address, Error, ErrorKind, Instance, InstanceId, InstanceStatus, Result, ServiceName,
};
#[doc(inline)]
pub use registry_engine::metrics;
#[doc(inline)]
pub use registry_engine::{
    Registration, RegistrationOptions, RegistrationStatus, ServiceState, Update, ViewStatus,
};

/// Runs the README's examples as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Runs the guide's examples as doctests.
#[cfg(all(doctest, feature = "axum", feature = "grpc", feature = "http", feature = "mem"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// Runs the examples about gRPC as doctests.
#[cfg(all(doctest, feature = "grpc"))]
#[doc = include_str!("../docs/grpc.md")]
struct Grpc;

/// Runs the examples for authors of stores as doctests.
#[cfg(all(doctest, feature = "mem"))]
#[doc = include_str!("../docs/write-a-store.md")]
struct WriteAStore;
