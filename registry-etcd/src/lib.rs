//! The service registry over etcd, to the contract of [`registry_core::Registry`].
//!
//! ```no_run
//! use registry_core::{CallOptions, Claim, Instance, Registry};
//! use registry_etcd::EtcdRegistry;
//! use std::time::Duration;
//!
//! # async fn example() -> registry_core::Result<()> {
//! let registry = EtcdRegistry::connect(&"etcd://127.0.0.1:2379/prod".parse()?).await?;
//! let instance = Instance::from_parts("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! let claim = Claim::new(Duration::from_secs(10))?;
//! let lease = registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
//! registry.keep_alive(&lease, &CallOptions::DEFAULT).await?;
//! # Ok(())
//! # }
//! ```
//!
//! An instance hangs on one etcd lease, whose id is the claim's. Which keys and values stand for it
//! is the [layout]: one of these, chosen by the URL, or a
//! [`Layout`](crate::layout::Layout) of your own in [`EtcdOptions::layout`].
//!
//! | `?layout=` | the value of `<path>/<service>/<id>` | the path, if the URL has none |
//! | --- | --- | --- |
//! | `native` | its [record](registry_core::encoding) | `registry` |
//! | `go-zero` | `10.0.0.1:8080` | none, keys start with the service |
//! | `grpc` | `{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}` | none, keys start with the service |
//! | `kratos` | `{"id":"u-1","name":"user","version":"","metadata":null,"endpoints":["grpc://10.0.0.1:8080"]}` | `/microservices` |
//! | `kitex` | `{"network":"tcp","address":"10.0.0.1:8080","weight":10,"tags":null}` | `kitex/registry-etcd` |
//!
//! * **native**: in names `/`, `%`, control characters and what is not ASCII are percent-encoded,
//!   so the keys of a service are exactly those under `<path>/<service>/`.
//! * **go-zero**: what publishers of go-zero put and its subscribers read, byte for byte; the
//!   service is their `Etcd.Key`. To register, an id is a decimal from 1 to 2^63-1, by their custom
//!   that of the lease; to be read, it may be any.
//! * **grpc**: what the package `naming/endpoints` of etcd's client in Go reads and writes. `Metadata` is an
//!   object of the instance's metadata, as Go escapes it, or `null`. Of what Go programs put there, an object
//!   of strings is read as metadata; anything else is theirs.
//! * **kratos**: what the etcd registry of Kratos reads and writes. An instance belongs to the service that its JSON
//!   names. Its first endpoint of `grpc`, or else its first, is the address, and each endpoint of that host is a port
//!   named by its scheme. The address is written as `grpc`, and each other port whose name may be a scheme. `version` is the
//!   label of that name, and the weight the metadata of that name, as in Kratos. One without an endpoint is listed and
//!   not available. An id with a `/` is counted and reported. The path is Kratos' namespace to the byte: `etcd://host//prod`
//!   has the keys of `Namespace("/prod")`.
//! * **kitex**: what the package `registry-etcd` of Kitex reads and writes. By custom the id is the address. `tags` is the
//!   metadata, and `weight` a tenth of the weight, rounded up: a default of 10 beside one of 100. As in Kitex, no service
//!   has a `/`. An IPv6 address is read without brackets, as Kitex writes it, and written with them, as Go dials it.
//!   `registry-etcd` of before December 2022 takes all keys that start with `user` for its instances, those of
//!   `user.~meta` too: update such callers first.
//!
//! All but `native` have a second key, `<path>/<service>.~meta/<id>`, for what Go's value cannot say: the whole
//! [record](registry_core::encoding), with lease and ttl, put by the same transaction under the same lease. It
//! counts while its lease is that of the first key, so what a publisher in Go takes over is its own. Go's readers
//! know no status: an instance that drains or has weight 0 has only the second key, so they do not see it. A
//! second key that cannot be decoded is counted and reported, and its instance listed without it. No service ends
//! with `.~meta`.
//!
//! In these, names are not escaped and other keys may lie among those of a service: only its
//! direct children are its instances (`a/b/1` is no instance of `a`), and the rest is passed over. A
//! path of slashes alone is what keys start with: on `etcd://host//?layout=go-zero` the service
//! `grpc/user.rpc` is go-zero's key `/grpc/user.rpc`.
//! Two instances may have one address; to go-zero's readers these are one endpoint.
//!
//! What is particular to this store:
//!
//! * Revisions are etcd's own, and number the whole store.
//! * Ttls are whole seconds, rounded up, and no shorter than etcd's minimum (2 s, unless the
//!   server's election timeout was changed). Claims that round to the same ttl count as the same.
//! * To deregister takes two requests: one puts the record as withdrawn, so that watches know the reason, and one
//!   revokes the lease, which deletes the keys. Until then a withdrawn record is not listed and holds no id. The first
//!   request gets half of the caller's timeout. If it fails, the second is made all the same.
//! * An instance that died is gone within its ttl and 1 s, and 1 s more for every 1,000 leases that die at once.
//!   etcd does not tell an expiry from a revocation, so it has no reason.
//! * The first [`keep_alive`](registry_core::Registry::keep_alive) a ttl after the last one that
//!   did also compares the record with the one acknowledged, in a second request at the same time.
//! * A takeover is one transaction that compares the holder and puts the record. The lease that it displaces only
//!   loses the key: other keys may be on it, so it is not revoked. Its owner is told by its watch on its own
//!   record, or by the presence check.
//! * A holder is a lease and the create revision of the key. A takeover keeps the create revision. So a lease that was
//!   displaced, and takes the id back from its successor without a deletion between, is the same holder as before.
//! * The lease of a superseded claim is not revoked, and expires by its ttl. The claim may be repeated under it.
//! * A [watch on the own record](registry_core::Registry::watch_record) begins with a read that compares it, so
//!   that it opens however old the record is.
//! * A cursor knows the cluster, the number of keys of its service, and which key was put last and
//!   when. A history that agrees in these at the cursor's revision is taken for the same.
//! * A cursor of another cluster is `Invalid`; that of one that was wiped or restored `Diverged`.
//! * [`services`](registry_core::Registry::services) reads keys only: it names a service even if none of its
//!   records can be decoded. Where the layout has no path, each `<service>/<id>` in the whole of etcd counts.
//! * In the layouts of Go programs a watch begins with a read of all that stood at its cursor, and keeps it.
//! * All watches of a registry and its clones are watchers on one gRPC stream, read by one task. A cursor
//!   that was loaded while that stood, on the same connection, is not checked: the same process answered
//!   all the time. Cursors move with the service's changes and with the progress notifications that etcd
//!   sends a quiet watch (by default every 10 minutes; see etcd's
//!   `--experimental-watch-progress-notify-interval`).
//! * Renewals go over four streams, each served by one task. One that is held up, by a lease that has expired and is not revoked
//!   yet, takes no more: another takes its place.
//! * All requests go to one member, drawn when connecting. It is left for the next when it cannot be
//!   reached, does not answer, or has no leader. A request that reached no member is retried on the next member at
//!   once; one that may have reached a member fails `Unavailable`, and its repeat goes to the next.
//! * A connection on which nothing is heard for half a second, while something is waited for, is given up when a
//!   request on it reaches the [timeout](EtcdOptions::request_timeout); the watches on it end `Unavailable`, to be
//!   resumed on another. When a caller gives up earlier, only later requests go elsewhere: what is open stays,
//!   unless the member gives no sign of life until that timeout. Every byte that is received is a sign of life: a part of
//!   an answer, too.
//! * Connections and streams belong to the tokio runtime that they were opened on. A handle that is used on several
//!   runtimes has connections on each.
//! * The files of TLS are read for each connection, so that renewed certificates need no restart. The first ones are
//!   checked by the first call. Later, files that cannot be used make connections `Unavailable` until they are repaired.
//! * An error names the member, and what to do if that is no etcd: a port that wants TLS or does not speak it, a server of
//!   HTTP/1, a Redis, a certificate that is not trusted.
//! * A token that has run out is replaced, for calls and for watches, and the request is made once more;
//!   a password that is refused is `Denied`, at once.
//! * Where etcd compacts its history, cursors older than that are `Compacted`. By default it never
//!   does, and the history grows without bound: see etcd's `--auto-compaction-retention`.
//!
//! # Users and roles
//!
//! With authentication, a user needs these permissions, whose ranges include the first key and exclude the last:
//!
//! | who | native, prefix `registry` | the others, path `apps` |
//! | --- | --- | --- |
//! | registers and discovers all services, and lists them | `readwrite` on `registry/`, `registry0` | `readwrite` on `apps/`, `apps0` |
//! | owner of the service `user`: registers and discovers it | `readwrite` on `registry/user/`, `registry/user0` | `readwrite` on `apps/user.~meta/`, `apps/user0` |
//! | reader of the service `user`: discovers it | `read` on `registry/user/`, `registry/user0` | `read` on `apps/user.~meta/`, `apps/user0` |
//!
//! `etcdctl role grant-permission user-owner readwrite registry/user/ registry/user0` grants the second one. To register
//! needs to read as well, since a registration compares what is stored. Without a path, all services are the range from
//! `\0` to `\0`, which has no end. Leases have no permissions in etcd: any user may renew a lease whose id it
//! knows. Only a user who may write all its keys revokes it.
//!
//! [`connect`](EtcdRegistry::connect) asks for no permission. A call that lacks one fails `Denied`. Some releases of
//! etcd, 3.4.23 among them, check no permissions inside of nested transactions. This crate writes nothing there that
//! the outer transaction does not write as well, so its calls are refused on them too; another program of such a
//! user may write what it likes.
//!
//! # Bounds
//!
//! What a server decides is bounded. Past a bound, a call fails `Internal`.
//!
//! | what | at most |
//! | --- | --- |
//! | an answer to a read of several keys | 16 MiB; it is asked for again with fewer keys |
//! | an answer to anything else, and one key with its value | 64 MiB |
//! | all keys and values of one load or list | 1 GiB; of a value, 64 KiB and a byte count |
//! | pages of one load or list | each begins behind the one before |
//! | a response of a watch in all its pieces, and what waits while a watch is opened | 256 MiB, or the watch is `Compacted` |
//! | a granted ttl | a day, and not less than was requested |
//! | transactions of one registration | 4 |
//! | members asked in one call | each once; each token is replaced once |

#[cfg(test)]
mod arbitrary_replies;
mod client;
mod cluster;
mod connector;
mod cursor;
mod diagnose;
mod dial;
mod elsewhere;
mod endpoint;
mod error;
mod first_contact;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holding;
mod keep_alive;
pub mod layout;
mod lease;
mod lease_table;
mod load;
mod options;
mod pages;
mod presence;
mod register;
mod runtimes;
#[cfg(test)]
mod tests;
mod transport;
mod ttl;
mod txn;
mod watch;
mod withdraw;

pub use self::connector::EtcdConnector;
pub use self::options::EtcdOptions;

use self::elsewhere::Elsewhere;
use self::first_contact::FirstContact;
use self::layout::keyspace::Keyspace;
use self::lease_table::LeaseTable;
use self::runtimes::{Connections, Runtimes};
use async_trait::async_trait;
use registry_core::{
    CallOptions, Claim, Consistency, Cursor, Error, ErrorKind, Holder, Instance, Lease, Presence,
    Registry, Result, ServiceName, Snapshot, Target, Watch, silence_timeout,
};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// A service registry in etcd. A clone is a handle to the same connection.
#[derive(Clone)]
pub struct EtcdRegistry {
    default_ttl: Option<Duration>,
    runtimes: Runtimes,
    first_contact: FirstContact,
    keyspace: Keyspace,
    leases: LeaseTable,
    elsewhere: Elsewhere,
}

impl EtcdRegistry {
    /// Connects to `etcd://[user:password@]host[:port][,host[:port]...][/path]` with the default
    /// options.
    ///
    /// The hosts are members of one cluster; the port is 2379 unless stated. The option `layout` is
    /// `native`, whose path is `registry` unless stated, `go-zero` or `grpc`. A `/` at the end of the path
    /// does not count, unless the path of one of the last two has nothing else.
    ///
    /// `etcds://` is the same over TLS, with the feature `tls`. Its options name PEM files: `ca` contains the
    /// certificate authorities to trust (by default those of the system), `cert` and `key` contain the client
    /// certificate and its private key. `server_name` is the name in the server's certificate, by default the host.
    /// `verify=none` takes anybody for the server, so whoever is on the way reads and changes all.
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
    /// `Invalid` if `target` is no URL of this store, or names a layout that there is not or a file that
    /// cannot be read. `Unavailable` if no member answers in time, or none that answers has a quorum.
    /// `Denied` if the server wants other credentials, or is not who its certificate should say it is. Permissions are
    /// not checked: calls tell. A server that takes no client without the right certificate may just hang up, which is
    /// `Unavailable`.
    pub async fn connect_with(target: &Target, options: EtcdOptions) -> Result<Self> {
        let registry = Self::connect_lazy_with(target, options)?;
        let Connections { client, .. } = registry.runtimes.connections()?;
        let (key, members) = (registry.keyspace.root(), registry.runtimes.endpoints().len());
        Box::pin(registry.first_contact.make(&client, key, members)).await?;
        Ok(registry)
    }

    /// Returns a handle to the etcd that `target` names, with the default options and without a request: see
    /// [`connect_lazy_with`](Self::connect_lazy_with).
    ///
    /// # Errors
    ///
    /// Those of [`connect_lazy_with`](Self::connect_lazy_with).
    pub fn connect_lazy(target: &Target) -> Result<Self> {
        Self::connect_lazy_with(target, EtcdOptions::default())
    }

    /// Returns a handle with `options`, without a request. The first call connects, and makes the read that
    /// [`connect_with`](Self::connect_with) makes.
    ///
    /// Until that read succeeds, each call makes it first and returns its error, such as `Denied`; concurrent calls
    /// share one attempt.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` is no URL of this store, or names a layout that there is not. Files are read by the first call.
    pub fn connect_lazy_with(target: &Target, options: EtcdOptions) -> Result<Self> {
        let endpoints = dial::endpoints(target)?;
        target.allow_options(dial::allowed_options(target))?;
        let keyspace = Keyspace::open(target, options.layout.as_ref())?;
        let dial = dial::dial(target, &options)?;
        let silence = match options.silence_timeout {
            Some(Duration::ZERO) => {
                let message = "the silence timeout of etcd must be above 0, silence_timeout=`0s`";
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            Some(timeout) => timeout,
            // No lease is granted for less.
            None => silence_timeout(target.ttl().map(|ttl| ttl.max(ttl::MIN_GRANTED_TTL))),
        };
        let options = EtcdOptions { silence_timeout: Some(silence), ..options };
        let runtimes = Runtimes::new(endpoints, dial, options);
        let (leases, first_contact) = (LeaseTable::default(), FirstContact::default());
        let elsewhere = Elsewhere::default();
        Ok(Self { default_ttl: target.ttl(), runtimes, first_contact, keyspace, leases, elsewhere })
    }

    /// Makes the first contact unless it was made. Returns what to call by, and the options for what remains of the
    /// call.
    async fn contact(&self, options: &CallOptions) -> Result<(Connections, CallOptions)> {
        let connections = self.runtimes.connections()?;
        if self.first_contact.is_made() {
            return Ok((connections, *options));
        }
        let start = Instant::now();
        let contact = self.first_contact.make(&connections.client, self.keyspace.root(), 1);
        options.limit(Box::pin(contact)).await?;
        let options = match options.timeout {
            Some(timeout) => options.with_timeout(timeout.saturating_sub(start.elapsed())),
            None => *options,
        };
        Ok((connections, options))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for EtcdRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        let (Connections { client, .. }, options) = self.contact(options).await?;
        let Self { keyspace, leases, .. } = self;
        options.limit(register::register(&client, keyspace, leases, instance, claim)).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        let (Connections { client, .. }, options) = self.contact(options).await?;
        options.limit(Box::pin(register::holder(&client, &self.keyspace, instance))).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        let (Connections { client, .. }, options) = self.contact(options).await?;
        let Self { keyspace, leases, .. } = self;
        let is_due = options.presence == Presence::Check && leases.is_check_due(lease);
        let outcome = options.limit(async {
            if is_due {
                Box::pin(lease::renew_and_verify(&client, keyspace, leases, lease)).await
            } else {
                lease::renew(&client, leases, lease).await
            }
        });
        let granted = outcome.await?;
        leases.record(lease, is_due);
        Ok(granted)
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        let (Connections { client, .. }, options) = self.contact(options).await?;
        self.leases.remove(lease.id());
        options.limit(withdraw::deregister(&client, &self.keyspace, lease, &options)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        let (Connections { client, streams }, options) = self.contact(options).await?;
        // An answer without a quorum may be from before what a watch has told of.
        let is_strong = options.consistency == Consistency::Strong;
        let load_check = if is_strong { streams.begin_load() } else { None };
        let keys = self.keyspace.service(service)?;
        let loading = load::load(&client, &keys, options.consistency);
        let loaded = options.limit(Box::pin(loading)).await?;
        if loaded.newest.is_none() {
            self.elsewhere.look(&client, &self.keyspace, service);
        }
        if let Some(load_check) = load_check {
            load_check.finish(&client, &loaded)?;
        }
        Ok(loaded.snapshot)
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let (Connections { client, streams }, options) = self.contact(options).await?;
        let service = self.keyspace.service(service)?;
        options.limit(streams.watch(&client, service, after)).await
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let (Connections { client, streams }, options) = self.contact(options).await?;
        let opening = streams.watch_record(&client, &self.keyspace, lease);
        options.limit(Box::pin(opening)).await
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        let (Connections { client, .. }, options) = self.contact(options).await?;
        options.limit(Box::pin(load::services(&client, &self.keyspace))).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.default_ttl
    }
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoints", &self.runtimes.endpoints())
            .field("prefix", &self.keyspace.root())
            .finish_non_exhaustive()
    }
}
