//! Implements [`registry_core::Registry`] on etcd.
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
//! Each instance has one etcd lease, whose id is the claim's. The [layout] decides which keys and values
//! represent the instance: one of the built-in ones below, chosen by the URL, or your own
//! [`Layout`](crate::layout::Layout) in [`EtcdOptions::layout`].
//!
//! | `?layout=` | value of the key `<path>/<service>/<id>` | default path |
//! | --- | --- | --- |
//! | `native` | the [record](registry_core::encoding) of the instance | `registry` |
//! | `go-zero` | `10.0.0.1:8080` | none, keys start with the service |
//! | `grpc` | `{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}` | none, keys start with the service |
//! | `kratos` | `{"id":"u-1","name":"user","version":"","metadata":null,"endpoints":["grpc://10.0.0.1:8080"]}` | `/microservices` |
//! | `kitex` | `{"network":"tcp","address":"10.0.0.1:8080","weight":10,"tags":null}` | `kitex/registry-etcd` |
//!
//! * **native**: names are percent-encoded where they contain `/`, `%`, control or non-ASCII characters. So
//!   the keys of a service are exactly those under `<path>/<service>/`.
//! * **go-zero**: the format of go-zero's publishers and subscribers, byte for byte. The service name is
//!   their `Etcd.Key`. An id to register must be a decimal from 1 to 2^63-1 (go-zero uses the lease id). An
//!   id that is only read may be any text.
//! * **grpc**: the format of the package `naming/endpoints` of etcd's Go client. `Metadata` is a JSON object
//!   of the instance's metadata, escaped as Go does, or `null`. An object of strings that a Go program wrote
//!   is read as metadata; any other value is ignored.
//! * **kratos**: the format of Kratos' etcd registry. An instance belongs to the service that its JSON names.
//!   Its address is the first `grpc` endpoint, or else its first endpoint. Each endpoint on that host becomes
//!   a port named after its scheme. The address is written as the `grpc` endpoint, and each other port whose
//!   name is a valid URL scheme as an endpoint of that scheme. `version` maps to the label `version`, and the
//!   metadata entry `weight` to the weight, as in Kratos. An instance without an endpoint is listed but not
//!   available. A key whose id contains a `/` is counted and reported as undecodable. The path is Kratos'
//!   namespace, byte for byte: `etcd://host//prod` has the keys of `Namespace("/prod")`.
//! * **kitex**: the format of Kitex' package `registry-etcd`, where the id is usually the address. `tags` is the
//!   metadata. The JSON `weight` is a tenth of the instance's weight, rounded up, since the default is 10 in Kitex and
//!   100 here. As in
//!   Kitex, service names contain no `/`. An IPv6 address is read without brackets, as Kitex writes it, and written
//!   with brackets, as Go dials it. Versions of `registry-etcd` before December 2022 treat every key that starts
//!   with `user` as an instance of `user`, including those of `user.~meta`: update such callers first.
//!
//! In every layout except `native`, an instance has a *side key*, `<path>/<service>.~meta/<id>`, in addition to
//! the *public key* of the table. The side key contains what the Go formats cannot express: the whole
//! [record](registry_core::encoding) with lease and ttl. The same transaction puts both keys under the same
//! lease. The side key is ignored if its lease differs from that of the public key: a Go publisher has then
//! taken over the instance. Go readers know no status, so a draining instance, or one with weight 0, has only
//! the side key and is invisible to them. An undecodable side key is counted and reported, and its instance is
//! listed without it. No service name may end with `.~meta`.
//!
//! These layouts do not escape names, and unrelated keys may lie among those of a service. Only direct children of
//! the service are instances (`a/b/1` is not an instance of `a`); other keys are ignored. A path that consists only of
//! slashes is a literal key prefix: on `etcd://host//?layout=go-zero` the service `grpc/user.rpc` is go-zero's key
//! `/grpc/user.rpc`. Two instances may share an address; go-zero's readers see one endpoint.
//!
//! Properties of this store:
//!
//! * Revisions are etcd's own, and count the changes of the whole store.
//! * Ttls are whole seconds, rounded up, and no shorter than etcd's minimum (2 s with the default election
//!   timeout). Claims that round to the same ttl count as the same.
//! * `deregister` takes two requests. The first marks the record as withdrawn, so that watches know the reason. The
//!   second revokes the lease, which deletes the keys. Between them the withdrawn record is not listed and does not
//!   hold the id. The first request gets half of the caller's timeout; if it fails, the second is still sent.
//! * A crashed instance is gone within its ttl plus 1 s, and another second for every 1,000 leases that
//!   expire at once. etcd does not distinguish an expiry from a revocation, so such a deletion has no reason.
//! * Once per ttl, [`keep_alive`](registry_core::Registry::keep_alive) also sends a concurrent presence
//!   check, which compares the stored record with the acknowledged one.
//! * A takeover is one transaction that compares the holder and puts the record. The displaced lease is not
//!   revoked, since other keys may be attached to it; it only loses the key. Its owner notices through its
//!   own-record watch or the presence check.
//! * A holder is a lease and the create revision of the key, which a takeover preserves. So a displaced lease
//!   that takes the id back is the same holder as before, unless the key was deleted in between.
//! * The lease of a superseded claim is not revoked; it expires after its ttl. Until then the claim may
//!   be repeated under it.
//! * An [own-record watch](registry_core::Registry::watch_record) starts with a read that compares the
//!   record, so compaction cannot prevent it.
//! * A cursor identifies the cluster, the number of keys of its service, and the key that was put last, with
//!   its revision. A history that matches all of these at the cursor's revision counts as the same history.
//! * A watch fails with `Invalid` if its cursor is of another cluster, and with `Diverged` if the cluster was wiped
//!   or restored after the cursor was loaded.
//! * [`services`](registry_core::Registry::services) reads only keys, so it lists a service even if none of
//!   its records can be decoded. In a layout without a path, every `<service>/<id>` key in etcd counts.
//! * In the layouts with side keys, a watch first reads the service as of its cursor, and keeps those keys in
//!   memory.
//! * All watches of a registry and its clones are watchers on one gRPC stream, read by one task. A cursor is
//!   not checked if it was loaded on the same connection while that stream was open, since the same process
//!   answered the load and the watch. Cursors advance with changes of the service and with etcd's progress
//!   notifications for idle watches (every 10 minutes by default; see `--experimental-watch-progress-notify-interval`).
//! * Renewals use four streams, each served by one task. A stream that is blocked, for example by an expired
//!   lease that is not revoked yet, accepts no more renewals, and another stream replaces it.
//! * All requests go to one member, chosen at random. The client switches to the next member if this one is
//!   unreachable, does not answer, or has no leader. A request that reached no member is retried on the next
//!   member at once. One that may have reached a member fails with `Unavailable`, and the caller's retry goes to
//!   the next member.
//! * If an answer is pending and a connection is silent for half a second, the connection is closed once a request
//!   on it reaches the [timeout](EtcdOptions::request_timeout). Its watches then end with `Unavailable` and can be
//!   resumed on another connection.
//! * If a caller gives up on a silent connection before that timeout, later requests use another connection. Open
//!   streams stay, unless the member shows no sign of life until the timeout. Every received byte is a sign of
//!   life, even part of an answer.
//! * Connections and streams belong to the tokio runtime on which they were opened. A registry
//!   that is used on several runtimes has connections on each, which its clones share.
//! * TLS files are read for each connection, so renewed certificates need no restart. The first call checks the
//!   files. If they become unusable later, new connections fail with `Unavailable` until the files are repaired.
//! * Errors name the member. For a common mistake they name the cause: the port requires TLS or does not speak it,
//!   the server speaks HTTP/1 or is a Redis, or the certificate is not trusted.
//! * An expired token is replaced and the request is sent once more, for calls and for watches. A rejected
//!   password fails with `Denied` at once.
//! * A watch from a cursor older than etcd's last compaction fails with `Compacted`. By default etcd never compacts,
//!   and its history grows without bound: see `--auto-compaction-retention`.
//!
//! # Users and roles
//!
//! With authentication, a user needs these permissions. Each pair of keys below is a range, which includes the
//! first key and excludes the second:
//!
//! | role | layout `native`, path `registry` | other layouts, path `apps` |
//! | --- | --- | --- |
//! | all services: registers, discovers and lists them | `readwrite` on `registry/`, `registry0` | `readwrite` on `apps/`, `apps0` |
//! | owner of the service `user`: registers and discovers it | `readwrite` on `registry/user/`, `registry/user0` | `readwrite` on `apps/user.~meta/`, `apps/user0` |
//! | reader of the service `user`: discovers it | `read` on `registry/user/`, `registry/user0` | `read` on `apps/user.~meta/`, `apps/user0` |
//!
//! `etcdctl role grant-permission user-owner readwrite registry/user/ registry/user0` grants the permission of the
//! second row in the layout `native`.
//! Registering requires read permission too, since a registration compares the stored record. Without a path,
//! the range of all services is from `\0` to `\0`, which means no end. etcd has no permissions for leases:
//! any user who knows a lease id may renew it. Revoking a lease requires write permission on all its keys.
//!
//! [`connect`](EtcdRegistry::connect) checks no permissions. A call that lacks one fails with `Denied`.
//!
//! Some releases of etcd, such as 3.4.23, check no permissions inside nested transactions. Those releases refuse
//! the calls of this crate, too. Its nested transactions write only keys that the outer one also writes. But another
//! program could use nested transactions to write any key.
//!
//! # Bounds
//!
//! All sizes and counts in responses are bounded. Past a bound, a call fails with `Internal`, unless the table says
//! otherwise. A call also fails if a page of a load or list does not begin after the previous one.
//!
//! | what | limit |
//! | --- | --- |
//! | response to a read of several keys | 16 MiB; a larger page is read again with fewer keys |
//! | any other response, or one key with its value | 64 MiB |
//! | all keys and values of one load or list | 1 GiB; a value longer than 64 KiB counts as 64 KiB plus one byte |
//! | one watch response with all its fragments, and events buffered while a watch opens | 256 MiB, or the watch fails with `Compacted` |
//! | a granted ttl | a day; it must not be shorter than requested |
//! | transactions of one registration | 4 |
//! | members tried in one call | each at most once; each token is refreshed once |

#[cfg(test)]
mod arbitrary_replies;
mod client;
mod cluster;
mod connector;
mod cursor;
mod diagnose;
mod dial;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holding;
mod initial_read;
mod keep_alive;
pub mod layout;
mod lease;
mod lease_table;
mod load;
mod options;
mod other_layouts;
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

use self::initial_read::InitialRead;
use self::layout::keyspace::Keyspace;
use self::lease_table::LeaseTable;
use self::other_layouts::OtherLayoutCheck;
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

/// A service registry in etcd. A clone shares its connections.
#[derive(Clone)]
pub struct EtcdRegistry {
    default_ttl: Option<Duration>,
    runtimes: Runtimes,
    initial_read: InitialRead,
    keyspace: Keyspace,
    leases: LeaseTable,
    other_layouts: OtherLayoutCheck,
}

impl EtcdRegistry {
    /// Connects to `etcd://[user:password@]host[:port][,host[:port]...][/path]` with the default options.
    ///
    /// The hosts are members of one cluster; the default port is 2379. The option `layout` names a built-in
    /// [layout], `native` by default, which also determines the default path. A `/` at the end of the path is
    /// ignored, except that `kratos` and `kitex` use the path exactly as given, and `go-zero` and `grpc` do
    /// so if it consists only of slashes.
    ///
    /// `etcds://` is the same over TLS and requires the feature `tls`. Its options name PEM files: `ca` has the
    /// trusted certificate authorities (by default those of the system), `cert` and `key` have the client
    /// certificate and its private key. `server_name` is the name in the server's certificate, by default the host.
    /// `verify=none` accepts any server certificate, so a man in the middle can read and change everything.
    ///
    /// # Errors
    ///
    /// Those of [`connect_with`](Self::connect_with).
    pub async fn connect(target: &Target) -> Result<Self> {
        Self::connect_with(target, EtcdOptions::default()).await
    }

    /// Connects with `options`, and makes one read to check that the store answers.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`connect_lazy_with`](Self::connect_lazy_with), or if `target` names a file that cannot be
    /// read. `Unavailable` if no member answers in time, or none that answers has a quorum. `Denied` if the server
    /// refuses the credentials or its certificate is not valid. Permissions are not checked here but by each call. A
    /// server that requires a client certificate may just close the connection, which is `Unavailable`.
    pub async fn connect_with(target: &Target, options: EtcdOptions) -> Result<Self> {
        let registry = Self::connect_lazy_with(target, options)?;
        let Connections { client, .. } = registry.runtimes.connections()?;
        let (key, members) = (registry.keyspace.root(), registry.runtimes.endpoints().len());
        Box::pin(registry.initial_read.ensure(&client, key, members)).await?;
        Ok(registry)
    }

    /// Returns a handle with the default options, without a request: see
    /// [`connect_lazy_with`](Self::connect_lazy_with).
    ///
    /// # Errors
    ///
    /// Those of [`connect_lazy_with`](Self::connect_lazy_with).
    pub fn connect_lazy(target: &Target) -> Result<Self> {
        Self::connect_lazy_with(target, EtcdOptions::default())
    }

    /// Returns a handle with `options`, without a request. The first call connects and makes the read of
    /// [`connect_with`](Self::connect_with).
    ///
    /// Until that read succeeds, each call makes it first and returns its error, such as `Denied`; concurrent calls
    /// share one attempt.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` is no URL of this store; if one of its options is unknown or has an invalid value; if it
    /// has only one of user and password, or of `cert` and `key`; if it requires TLS and the feature `tls` is off; or
    /// if [`EtcdOptions::silence_timeout`] is 0. The TLS files are not read here but by the first call.
    pub fn connect_lazy_with(target: &Target, options: EtcdOptions) -> Result<Self> {
        let endpoints = dial::endpoints(target)?;
        target.allow_options(dial::allowed_options(target))?;
        let keyspace = Keyspace::open(target, options.layout.as_ref())?;
        let dial = dial::dial(target, &options)?;
        let silence = match options.silence_timeout {
            Some(Duration::ZERO) => {
                let message = "`silence_timeout` must be above 0, silence_timeout=`0s`";
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            Some(timeout) => timeout,
            // A lease lives at least for this minimum, even if the URL requests a shorter ttl.
            None => silence_timeout(target.ttl().map(|ttl| ttl.max(ttl::MIN_GRANTED_TTL))),
        };
        let options = EtcdOptions { silence_timeout: Some(silence), ..options };
        let runtimes = Runtimes::new(endpoints, dial, options);
        let (leases, initial_read) = (LeaseTable::default(), InitialRead::default());
        let other_layouts = OtherLayoutCheck::default();
        Ok(Self {
            default_ttl: target.ttl(),
            runtimes,
            initial_read,
            keyspace,
            leases,
            other_layouts,
        })
    }

    /// Makes the initial read, unless it has succeeded before. Returns the connections to use and the options for the
    /// rest of the call.
    async fn prepare(&self, options: &CallOptions) -> Result<(Connections, CallOptions)> {
        let connections = self.runtimes.connections()?;
        if self.initial_read.has_succeeded() {
            return Ok((connections, *options));
        }
        let start = Instant::now();
        let read = self.initial_read.ensure(&connections.client, self.keyspace.root(), 1);
        options.limit(Box::pin(read)).await?;
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
        let (Connections { client, .. }, options) = self.prepare(options).await?;
        let Self { keyspace, leases, .. } = self;
        options.limit(register::register(&client, keyspace, leases, instance, claim)).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        let (Connections { client, .. }, options) = self.prepare(options).await?;
        options.limit(Box::pin(register::holder(&client, &self.keyspace, instance))).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        let (Connections { client, .. }, options) = self.prepare(options).await?;
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
        let (Connections { client, .. }, options) = self.prepare(options).await?;
        self.leases.remove(lease.id());
        options.limit(withdraw::deregister(&client, &self.keyspace, lease, &options)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        let (Connections { client, streams }, options) = self.prepare(options).await?;
        // Only strong reads can verify cursors: a stale one may be older than a watch.
        let is_strong = options.consistency == Consistency::Strong;
        let load_check = if is_strong { streams.begin_load() } else { None };
        let keys = self.keyspace.service(service)?;
        let loading = load::load(&client, &keys, options.consistency);
        let loaded = options.limit(Box::pin(loading)).await?;
        if loaded.newest.is_none() {
            self.other_layouts.check(&client, &self.keyspace, service);
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
        let (Connections { client, streams }, options) = self.prepare(options).await?;
        let service = self.keyspace.service(service)?;
        options.limit(streams.watch(&client, service, after)).await
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let (Connections { client, streams }, options) = self.prepare(options).await?;
        let opening = streams.watch_record(&client, &self.keyspace, lease);
        options.limit(Box::pin(opening)).await
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        let (Connections { client, .. }, options) = self.prepare(options).await?;
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
            .field("path", &self.keyspace.root())
            .finish_non_exhaustive()
    }
}
