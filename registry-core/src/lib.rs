//! The contract of a service registry, the same over etcd, Redis and memory.
//!
//! A store is a [`Registry`]: it [registers](Registry::register) an [`Instance`] under a name with a
//! lease, [loads](Registry::load) the name and [watches](Registry::watch) it from there. The watch is a
//! versioned stream of changes that can be resumed, and it reports lost history.
//!
//! This crate holds what all stores share: the model, the trait with its laws, and the stored form of an
//! instance. It contains no client of any store. Applications use `registry-engine`, which renews,
//! retries and resumes over any store. A test or a single process uses the memory store:
//!
//! ```
//! use futures_util::StreamExt;
//! use registry_core::{Change, Claim, Instance, Registry, ServiceName};
//! use registry_mem::MemRegistry;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> registry_core::Result<()> {
//! let registry = MemRegistry::new();
//! let service: ServiceName = "user.rpc".parse()?;
//! let before = registry.load(&service).await?;
//!
//! let instance = Instance::new(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let lease = registry.register(&instance, &Claim::new(Duration::from_secs(10))?).await?;
//! registry.keep_alive(&lease).await?;
//!
//! let mut watch = registry.watch(&service, before.cursor()).await?;
//! let batch = watch.next().await.expect("a watch goes on")?;
//! assert_eq!(batch.changes, [Change::Put(instance)]);
//! # Ok(())
//! # }
//! ```

mod batch;
mod cursor;
pub mod diagnosis;
mod error;
mod instance;
mod instances;
mod lease;
mod metadata;
mod name;
pub mod record;
mod registry;
mod snapshot;
mod target;
mod tls;
mod watch;

pub use self::batch::{Batch, Change};
pub use self::cursor::{Cursor, Origin, Revision};
pub use self::error::{BoxError, Error, ErrorKind, Result};
pub use self::instance::{DEFAULT_WEIGHT, Instance, InstanceStatus, MAX_METADATA_LEN};
pub use self::instances::Instances;
pub use self::lease::{Claim, Lease, LeaseId, MAX_TTL, MIN_TTL};
pub use self::name::{Address, InstanceId, MAX_NAME_LEN, ServiceName};
pub use self::registry::Registry;
pub use self::snapshot::Snapshot;
pub use self::target::{Host, Secret, Target};
pub use self::tls::TlsFiles;
pub use self::watch::{Publisher, WATCH_CAPACITY, Watch};
