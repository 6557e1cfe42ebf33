//! A client of the servers of a prefix. It has one connection for commands to each server in use, made on
//! demand, and one for each feed.
//!
//! The client never retries a call whose outcome is unknown. A failed connection is not used again; the next
//! call makes another. The `ConnectionManager` of the redis crate hides reconnects and its multiplexed
//! connection never reconnects, so the client caches the latter in its own slots. A redirected call was not
//! executed, so the client follows redirects.

mod feed_connection;
mod session;
mod silence;
mod slot;

pub(crate) use self::feed_connection::{FeedConnection, RawLog};

use self::session::{Call, Session};
use self::slot::SessionSlot;
use crate::connect::{Address, ConnectConfig, Dialer, Link, Redirect, Topology};
use crate::deadline::{SHARING_TIMEOUT, while_receiving, with_deadline};
use crate::error::StoreError;
use crate::info::Info;
use crate::options::{Ack, RedisOptions};
use crate::scripts::{self, Script};
use crate::shard::{FORMAT, KeyGroup, Keyspace, Shard};
use futures_util::future::join_all;
use redis::{Cmd, FromRedisValue};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime;
use tokio::time::{Instant, timeout};

/// The limit of redirects per call. In a healthy Cluster there is one at most.
const MAX_REDIRECTS: usize = 4;

/// A client of the servers of a prefix.
pub(crate) struct Client {
    topology: Box<dyn Topology>,
    dialer: Dialer,
    keyspace: Keyspace,
    options: RedisOptions,
    silence_timeout: Duration,
    sessions: Mutex<HashMap<SessionKey, Arc<SessionSlot>>>,
    /// Whether the layout of the prefix was verified since the last connection was made.
    is_verified: AtomicBool,
    /// The lock is held during verification, so that concurrent calls share it.
    verifying: tokio::sync::Mutex<()>,
}

/// The cache key of a session.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SessionKey {
    address: Address,
    /// The runtime that drives the connection. Another runtime may not be driven.
    runtime: runtime::Id,
    /// Whether the session is for writes that wait for replicas. Other calls must not queue behind them.
    waits_for_ack: bool,
}

impl SessionKey {
    fn new(address: &Address, waits_for_ack: bool) -> Self {
        let runtime = runtime::Handle::current().id();
        Self { address: address.clone(), runtime, waits_for_ack }
    }
}

impl Client {
    /// Returns a client that is not connected yet.
    pub(crate) fn new(config: ConnectConfig) -> Self {
        let ConnectConfig { topology, dialer, prefix, options, silence_timeout } = config;
        let keyspace = Keyspace::new(&prefix, options.shards);
        Self {
            topology,
            dialer,
            keyspace,
            options,
            silence_timeout,
            sessions: Mutex::default(),
            is_verified: AtomicBool::new(false),
            verifying: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Returns how long a watch waits for a silent server.
    pub(crate) fn silence_timeout(&self) -> Duration {
        self.silence_timeout
    }

    pub(crate) fn topology(&self) -> &dyn Topology {
        &*self.topology
    }

    /// Runs `script` on `shard`. This takes one round trip, unless the server does not know the script yet or
    /// redirects the call.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let (group, ack) = (KeyGroup::Shard(shard), Ack::Primary);
        self.call(&Call { script, group, args, ack, then: None }).await
    }

    /// Does the same, and runs a command that reads a key of `shard` in the same round trip. Another client's
    /// call may be executed in between.
    pub(crate) async fn run_with<T: FromRedisValue, U: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
        command: &Cmd,
    ) -> Result<(T, U), StoreError> {
        let (group, ack) = (KeyGroup::Shard(shard), Ack::Primary);
        self.call(&Call { script, group, args, ack, then: Some(command) }).await
    }

    /// Runs a `script` that writes, and waits for the acknowledgements that the options require.
    pub(crate) async fn write<T: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let (group, ack) = (KeyGroup::Shard(shard), self.options.ack);
        self.call(&Call { script, group, args, ack, then: None }).await
    }

    /// Makes a separate connection for blocking reads of the log of `shard`, and of the other logs on the
    /// same server.
    pub(crate) async fn connect_feed(&self, shard: Shard) -> Result<FeedConnection, StoreError> {
        with_deadline(self.options.connect_deadline.min(self.silence_timeout), async {
            let address = self.topology.locate(KeyGroup::Shard(shard)).await?;
            let session =
                Session::connect(&*self.topology, &self.dialer, &address, "registry-feed").await?;
            let link = session.into_link();
            Ok::<_, StoreError>(FeedConnection::new(address, link, self.silence_timeout))
        })
        .await
    }

    /// Returns the known servers of the shards, and an error if the server of a shard is unknown.
    pub(crate) async fn servers(&self) -> (Vec<Address>, Option<StoreError>) {
        let located = self.keyspace.shards().map(|shard| {
            with_deadline(
                self.options.connect_deadline,
                self.topology.locate(KeyGroup::Shard(shard)),
            )
        });
        let (mut addresses, mut failure) = (Vec::new(), None);
        for located in join_all(located).await {
            match located {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(error) => failure = Some(error),
            }
        }
        (addresses, failure)
    }

    /// Makes a connection for queries about a server.
    pub(crate) async fn dial(&self, address: &Address) -> Result<Link, StoreError> {
        let dialled = self.dialer.dial(address, "registry-doctor");
        with_deadline(self.options.connect_deadline, dialled).await
    }

    /// Returns the server's report about itself, over such a connection.
    pub(crate) async fn info(&self, link: &Link) -> Result<Info, StoreError> {
        with_deadline(self.options.request_deadline, Info::ask(&mut link.requests())).await
    }

    /// Runs a command on such a connection.
    pub(crate) async fn query<T: FromRedisValue>(
        &self,
        link: &Link,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut requests = link.requests();
        with_deadline(self.options.request_deadline, command.query_async(&mut requests)).await
    }

    /// Returns when the command connection of `shard` last received data, if there is one.
    pub(crate) fn last_received(&self, shard: Shard) -> Option<Instant> {
        let address = self.topology.known_server(KeyGroup::Shard(shard))?;
        let slot = self.sessions().get(&SessionKey::new(&address, false))?.clone();
        Some(slot.session()?.link().traffic().received())
    }

    /// Returns whether `shard` is still on the server at `address`, as far as is known.
    pub(crate) fn is_current(&self, address: &Address, shard: Shard) -> bool {
        let known = self.topology.known_server(KeyGroup::Shard(shard));
        known.is_none_or(|known| known == *address)
    }

    /// Verifies the layout of the prefix, unless that was done since the last connection was made.
    pub(crate) async fn ensure_layout(&self) -> Result<(), StoreError> {
        // A call that is no longer polled may hold the lock.
        let deadline = self.options.connect_deadline + self.options.request_deadline;
        with_deadline(deadline, async {
            let _guard = timeout(SHARING_TIMEOUT, self.verifying.lock()).await.ok();
            if self.is_verified.load(Ordering::Relaxed) {
                Ok(())
            } else {
                self.verify_layout().await
            }
        })
        .await
    }

    /// Checks that the prefix has the layout of this library.
    async fn verify_layout(&self) -> Result<(), StoreError> {
        let ours = [FORMAT.to_string(), self.keyspace.len().to_string()];
        let args = [ours[0].as_bytes(), ours[1].as_bytes()];
        let (script, group) = (&*scripts::LAYOUT, KeyGroup::Layout);
        let call = Call { script, group, args: &args, ack: Ack::Primary, then: None };
        let [format, shards]: [Option<String>; 2] = self.call(&call).await?;
        let (Some(format), Some(shards)) = (format, shards) else {
            return Ok(()); // an unused prefix, which a reader does not initialize
        };
        if [&format, &shards] != [&ours[0], &ours[1]] {
            return Err(StoreError::LayoutMismatch { format, shards, ours: ours.join(", ") });
        }
        self.is_verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn call<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StoreError> {
        let (mut redirects, mut ask) = (0, None);
        loop {
            let is_asking = ask.is_some();
            let cached = if is_asking { None } else { self.cached_session(call) };
            let (address, session) = match cached {
                Some(cached) => cached,
                None => Box::pin(self.locate_session(call, ask.take())).await?,
            };
            if call.group != KeyGroup::Layout && !self.is_verified.load(Ordering::Relaxed) {
                Box::pin(self.ensure_layout()).await?;
            }
            let keys = self.keyspace.keys(call.group);
            let run = session.run(&self.options, keys, call, is_asking);
            let wait = session.silence().wait();
            let traffic = session.link().traffic();
            let outcome = while_receiving(self.options.request_deadline, traffic, run).await;
            wait.end(); // a failed call determines by itself whether the connection is broken
            let error = match outcome {
                Ok(reply) => return Ok(reply),
                Err(error) => traffic.explain(error),
            };
            if error.breaks_connection() {
                session.mark_broken();
                self.topology.invalidate(&address);
            }
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(error.at(&address));
            }
            match self.topology.redirect(call.group, &address, &error) {
                Some(Redirect::Moved) => {}
                Some(Redirect::Ask(to)) => ask = Some(to),
                None => return Err(error.at(&address)),
            }
        }
    }

    /// Returns the cached session for a call, if its server is known and connected.
    fn cached_session(&self, call: &Call<'_>) -> Option<(Address, Arc<Session>)> {
        let address = self.topology.known_server(call.group)?;
        let key = SessionKey::new(&address, call.waits_for_ack());
        let slot = self.sessions().get(&key)?.clone();
        let session = slot.session()?;
        if session.silence().total() >= self.options.request_deadline {
            session.mark_broken();
            self.topology.invalidate(&address);
        }
        (!session.is_broken()).then_some((address, session))
    }

    /// Returns a session with the server of a call, or with the server of an `ASK` redirect. If a server
    /// cannot be reached, it has not received the call, so the next candidate is tried.
    async fn locate_session(
        &self,
        call: &Call<'_>,
        ask: Option<Address>,
    ) -> Result<(Address, Arc<Session>), StoreError> {
        let waits_for_ack = call.waits_for_ack();
        let mut tried = None;
        let located = with_deadline(self.options.connect_deadline, async {
            let mut attempts_left = if ask.is_some() { 1 } else { self.topology.candidates() };
            loop {
                let address = match &ask {
                    Some(ask) => ask.clone(),
                    None => self.topology.locate(call.group).await?,
                };
                tried = Some(address.clone());
                attempts_left -= 1;
                let key = SessionKey::new(&address, waits_for_ack);
                let error = match self.session(&key).await {
                    Ok(session) => return Ok((address, session)),
                    Err(error) => error,
                };
                if !error.is_unavailable() || attempts_left == 0 {
                    return Err(error);
                }
                self.topology.invalidate(&address);
            }
        });
        let located = located.await.map_err(|error| match &tried {
            Some(tried) => self.dialer.explain(error).at(tried),
            None => error,
        });
        if let (Err(error), Some(tried)) = (&located, &tried)
            && error.is_unavailable()
        {
            self.topology.invalidate(tried);
        }
        located
    }

    /// Returns the session of a key, and connects if there is none.
    ///
    /// Concurrent callers wait for the one that connects, for a limited time.
    async fn session(&self, key: &SessionKey) -> Result<Arc<Session>, StoreError> {
        let slot = {
            let mut sessions = self.sessions();
            if let Some(slot) = sessions.get(key) {
                slot.clone()
            } else {
                sessions.retain(|_, slot| slot.is_in_use());
                sessions.entry(key.clone()).or_default().clone()
            }
        };
        slot.session_or(async {
            let topology = &*self.topology;
            let session =
                Session::connect(topology, &self.dialer, &key.address, "registry").await?;
            if topology.verifies_each_connection() {
                self.is_verified.store(false, Ordering::Relaxed);
            }
            Ok(session)
        })
        .await
    }

    /// The lock is held for a moment in which nothing can panic.
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<SessionSlot>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Displays the servers and the database, without credentials.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topology, self.dialer.database)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self}, prefix `{}`)", self.keyspace.prefix())
    }
}
