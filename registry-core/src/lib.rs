//! The contract of a service registry, implemented by stores for etcd, Redis and memory.
//!
//! A store implements [`Registry`]: it [registers](Registry::register) an [`Instance`] of a service with a lease,
//! [loads](Registry::load) a service, and [watches](Registry::watch) it from the loaded revision. A watch is a
//! versioned stream of changes that can be resumed, and that reports lost history.
//!
//! This crate contains what all stores share: the data model, the trait and its laws, and the stored form of an
//! instance. It contains no store. Applications use `registry-engine`, which renews leases, retries, and resumes
//! watches over any store. This example uses the memory store:
//!
//! ```
//! use futures_util::StreamExt;
//! use registry_core::{CallOptions, Change, Claim, Instance, Registry, ServiceName};
//! use registry_mem::MemRegistry;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> registry_core::Result<()> {
//! let (registry, options) = (MemRegistry::new(), CallOptions::default());
//! let service: ServiceName = "user.rpc".parse()?;
//! let before = registry.load(&service, &options).await?;
//!
//! let instance = Instance::from_parts(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let lease = registry.register(&instance, &Claim::new(Duration::from_secs(10))?, &options).await?;
//! registry.keep_alive(&lease, &options).await?;
//!
//! let mut watch = registry.watch(&service, before.cursor(), &options).await?;
//! let batch = watch.next().await.expect("a watch does not end without an error")?;
//! let [Change::Put(record)] = &batch.changes[..] else { panic!("one put") };
//! assert_eq!(record.instance(), &instance);
//! # Ok(())
//! # }
//! ```

mod batch;
mod call;
mod change;
mod claim;
mod connector;
mod cursor;
pub mod diagnosis;
pub mod encoding;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holder;
mod instance;
mod lease;
mod lease_id;
mod lineage;
mod metadata;
mod name;
mod printable;
mod record;
mod records;
mod registry;
mod revision;
mod snapshot;
mod target;
mod tls;
mod watch;

pub use self::batch::Batch;
pub use self::call::{CallOptions, Consistency, Presence};
pub use self::change::{Change, DeleteReason, Deleted};
pub use self::claim::{Claim, DEFAULT_TTL, MAX_TTL, MIN_TTL, Takeover, silence_timeout};
pub use self::connector::{ConnectOptions, Connected, Connector, Diagnose};
pub use self::cursor::{Cursor, Origin};
pub use self::error::{BoxError, Error, ErrorKind, Result};
pub use self::holder::Holder;
pub use self::instance::{DEFAULT_WEIGHT, Instance, InstanceStatus, MAX_METADATA_LEN, Port};
pub use self::lease::Lease;
pub use self::lease_id::LeaseId;
pub use self::lineage::Lineage;
pub use self::name::{Address, InstanceId, MAX_NAME_LEN, ServiceName};
pub use self::printable::printable;
pub use self::record::Record;
pub use self::records::Records;
pub use self::registry::Registry;
pub use self::revision::Revision;
pub use self::snapshot::Snapshot;
pub use self::target::{Host, Secret, Target};
pub use self::tls::TlsFiles;
pub use self::watch::{BacklogEnd, Publisher, WATCH_CAPACITY, Watch};
