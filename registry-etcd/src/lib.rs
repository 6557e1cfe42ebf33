//! The service registry over etcd, to the contract of [`registry_core::Registry`].
//!
//! ```no_run
//! use registry_core::{Claim, Instance, Registry};
//! use registry_etcd::EtcdRegistry;
//! use std::time::Duration;
//!
//! # async fn example() -> registry_core::Result<()> {
//! let registry = EtcdRegistry::connect(&"etcd://127.0.0.1:2379/prod".parse()?).await?;
//! let instance = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let lease = registry.register(&instance, &Claim::new(Duration::from_secs(10))?).await?;
//! registry.keep_alive(&lease).await?;
//! # Ok(())
//! # }
//! ```
//!
//! An instance is one key, `<prefix>/<service>/<id>`, that holds its
//! [record](registry_core::record) and hangs on one etcd lease, whose id is the claim's. In names
//! `/`, `%`, control characters and what is not ASCII are percent-encoded, so the keys of a service
//! are exactly those under `<prefix>/<service>/`.
//!
//! What is particular to this store:
//!
//! * Revisions are etcd's own, and number the whole store.
//! * Ttls are whole seconds, rounded up, and no shorter than etcd's minimum (2 s, unless the
//!   server's election timeout was changed). Claims that round to the same ttl count as the same.
//! * A deregistered or expired lease takes its key with it. An instance that died is gone within
//!   its ttl and 1 s, and 1 s more for every 1,000 leases that die at once.
//! * The first [`keep_alive`](registry_core::Registry::keep_alive) a ttl after the last one that
//!   did also looks whether the record is still the one acknowledged.
//! * A takeover also revokes the lease it displaces, so that its holder hears of it from its next
//!   renewal. Where that fails, the presence check tells.
//! * A cursor knows the cluster, the number of keys of its service, and which key was put last and
//!   when. A history that agrees in these at the cursor's revision is taken for the same.
//! * [`services`](registry_core::Registry::services) goes by the keys: it names a service even if
//!   none of its records can be decoded.
//! * A watch is one gRPC stream and one task. Its cursors move with the service's changes and with
//!   the progress notifications that etcd sends a quiet watch (by default every 10 minutes; see
//!   etcd's `--experimental-watch-progress-notify-interval`).
//! * Where etcd compacts its history, cursors older than that are `Compacted`. By default it never
//!   does, and the history grows without bound: see etcd's `--auto-compaction-retention`.

mod client;
mod cursor;
mod error;
mod layout;
mod lease;
mod load;
mod options;
mod presence;
mod register;
mod watch;

pub use self::options::EtcdOptions;

use self::client::Client;
use self::layout::Layout;
use self::presence::Presence;
use async_trait::async_trait;
use registry_core::{
    Claim, Cursor, Error, ErrorKind, Instance, Lease, Registry, Result, ServiceName, Snapshot,
    Target, Watch,
};
use std::collections::BTreeSet;
use std::fmt;

/// A service registry in etcd. A clone is a handle to the same connection.
#[derive(Clone)]
pub struct EtcdRegistry {
    client: Client,
    layout: Layout,
    presence: Presence,
}

impl EtcdRegistry {
    /// Connects to `etcd://host[:port][/prefix][?layout=native]` with the default options.
    ///
    /// The port is 2379 unless stated, the key prefix `registry`. A `/` at the end of the prefix
    /// does not count. A `ttl` in the URL is for the caller to claim by; it changes nothing here.
    ///
    /// # Errors
    ///
    /// As [`connect_with`](Self::connect_with).
    pub async fn connect(target: &Target) -> Result<Self> {
        Self::connect_with(target, EtcdOptions::default()).await
    }

    /// Connects with `options`, and makes one read to see that the store answers.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` is no URL of this store or asks for what it cannot do yet: several
    /// hosts, a user or a password. `Unavailable` if nothing answers in time, or what answers has
    /// no quorum; `Denied` if the server wants credentials.
    pub async fn connect_with(target: &Target, options: EtcdOptions) -> Result<Self> {
        check_scheme(target)?;
        target.allow_options(&["layout"])?;
        let [host] = target.hosts() else {
            return Err(invalid(format!(
                "etcd:// names one host, got=`{}`; several endpoints are not supported yet",
                target.hosts().len()
            )));
        };
        if target.user().is_some() || target.password().is_some() {
            return Err(invalid("etcd:// takes no user and no password yet"));
        }
        let layout = Layout::of(target)?;
        let client = Client::connect(&host.authority(2379), options, layout.root()).await?;
        Ok(Self { client, layout, presence: Presence::default() })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for EtcdRegistry {
    async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        let lease = register::register(&self.client, &self.layout, instance, claim).await?;
        self.presence.seen(&lease);
        Ok(lease)
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        let due = self.presence.is_due(lease);
        let outcome = if due {
            lease::renew_and_verify(&self.client, &self.layout, lease).await
        } else {
            lease::renew(&self.client, lease).await
        };
        match &outcome {
            Ok(()) if due => self.presence.seen(lease),
            Err(error) if error.kind() == ErrorKind::LeaseLost => self.presence.forget(lease.id()),
            _ => {}
        }
        outcome
    }

    async fn deregister(&self, lease: &Lease) -> Result<()> {
        self.presence.forget(lease.id());
        lease::withdraw(&self.client, lease.id()).await
    }

    async fn load(&self, service: &ServiceName) -> Result<Snapshot> {
        load::load(&self.client, &self.layout.service(service)?).await
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch> {
        watch::watch(&self.client, self.layout.service(service)?, after).await
    }

    async fn services(&self) -> Result<BTreeSet<ServiceName>> {
        load::services(&self.client, &self.layout).await
    }
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoint", &self.client.endpoint())
            .field("prefix", &self.layout.root())
            .finish_non_exhaustive()
    }
}

fn check_scheme(target: &Target) -> Result<()> {
    match target.scheme() {
        "etcd" => Ok(()),
        "etcds" => Err(invalid("etcds:// is not supported yet: there is no TLS")),
        other => Err(invalid(format!("the URL of an etcd is etcd://host, got=`{other}://`"))),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_supported_is_said_and_not_ignored() {
        let cases = [
            ("redis://h", "etcd://host"),
            ("etcds://h", "no TLS"),
            ("etcd://", "one host"),
            ("etcd://a,b", "several endpoints"),
            ("etcd://app@h", "no user"),
            ("etcd://:s3cret@h", "no password"),
            ("etcd://h?layout=gozero", "`native`, `go-zero` or `grpc`"),
            ("etcd://h?layouts=native", "unknown option"),
        ];
        for (url, hint) in cases {
            let error = EtcdRegistry::connect(&url.parse().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(error.to_string().contains(hint), "{url}: {error}");
            assert!(!format!("{error:?}").contains("s3cret"));
        }
    }
}
