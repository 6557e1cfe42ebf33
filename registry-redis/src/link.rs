//! Connections to the servers: one for commands to each that is in use, made when it is needed, and one
//! for each feed.
//!
//! No call is ever repeated here whose outcome is unknown. A connection that failed is not used again;
//! the next call makes another. The client's own reconnecting connection hides when that happens, and its
//! shared connection never reconnects, so slots of our own hold the latter. What a node of a Cluster sends
//! on to another, it has not done: that is followed.

mod session;

use self::session::Session;
use crate::connect::{Address, Dialer, Setup, Topology};
use crate::error::{Fault, Redirect};
use crate::history::RawEntry;
use crate::info::Info;
use crate::options::{Ack, RedisOptions};
use crate::scripts;
use crate::shard::{FORMAT, Home, Keyspace, Shard};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Script};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How often a call is sent on from node to node of a Cluster. In one that is in order, once.
const MOST_HOPS: usize = 4;

/// The way to a prefix on its servers.
pub(crate) struct Link {
    topology: Topology,
    dialer: Dialer,
    keyspace: Keyspace,
    options: RedisOptions,
    sessions: Mutex<HashMap<Way, Arc<Slot>>>,
    /// Whether the layout of the prefix was looked at, since the last connection was made.
    is_verified: AtomicBool,
}

/// A connection that there may be.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Way {
    address: Address,
    /// Whether it is for writes that wait for replicas, which nothing else should wait for.
    waits: bool,
}

type Slot = tokio::sync::Mutex<Option<Arc<Session>>>;

/// A script, what it is given, and where.
struct Call<'a> {
    script: &'a Script,
    home: Home,
    args: &'a [&'a [u8]],
    ack: Ack,
}

impl Link {
    /// Connects, so that what is wrong with the server or the options is said at once.
    pub(crate) async fn connect(setup: Setup) -> Result<Self, Fault> {
        let Setup { topology, dialer, prefix, options } = setup;
        let keyspace = Keyspace::new(&prefix, options.shards);
        let (sessions, is_verified) = (Mutex::default(), AtomicBool::new(false));
        let link = Self { topology, dialer, keyspace, options, sessions, is_verified };
        link.verify().await?;
        Ok(link)
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Whether shards lie on different servers, so that no read goes to several.
    pub(crate) fn is_cluster(&self) -> bool {
        self.topology.is_cluster()
    }

    /// Runs `script` on `shard`: one call, but for a server that does not know the script yet, or a node
    /// that the shard does not lie on.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
    ) -> Result<T, Fault> {
        self.call(&Call { script, home: Home::Shard(shard), args, ack: Ack::Primary }).await
    }

    /// Runs a `script` that writes what is to be acknowledged, and waits for as many as the options say to
    /// have it.
    pub(crate) async fn write<T: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
    ) -> Result<T, Fault> {
        self.call(&Call { script, home: Home::Shard(shard), args, ack: self.options.ack }).await
    }

    /// A connection of its own that answers only when a log has grown: those of all shards, or in a
    /// Cluster that of `shard`.
    pub(crate) async fn feed(&self, shard: Shard) -> Result<FeedLink, Fault> {
        let home = Home::Shard(shard);
        let greeted = within(self.options.connect_deadline, async {
            let address = self.topology.locate(home).await?;
            let session = Session::greet(self, &address, "registry-feed").await?;
            Ok::<_, Fault>((address, session.connection))
        });
        let (address, connection) = greeted.await?;
        let patience = FeedLink::BLOCK + self.options.request_deadline;
        Ok(FeedLink { address, connection, patience })
    }

    /// Who is asked about the shards, as far as is known; and why that is not known of one of them,
    /// if so.
    pub(crate) async fn addresses(&self) -> (Vec<Address>, Option<Fault>) {
        let located = self.keyspace.shards().map(|shard| {
            within(self.options.connect_deadline, self.topology.locate(Home::Shard(shard)))
        });
        let (mut addresses, mut lost) = (Vec::new(), None);
        for located in join_all(located).await {
            match located {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(fault) => lost = Some(fault),
            }
        }
        (addresses, lost)
    }

    /// A connection for questions about a server as a whole.
    pub(crate) async fn dial(&self, address: &Address) -> Result<MultiplexedConnection, Fault> {
        let dialled = self.dialer.dial(address, "registry-doctor");
        within(self.options.connect_deadline, dialled).await
    }

    /// What the server at the other end of such a connection says of itself.
    pub(crate) async fn info(&self, connection: &mut MultiplexedConnection) -> Result<Info, Fault> {
        within(self.options.request_deadline, Info::ask(connection)).await
    }

    /// Asks a question over it.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        question: &Cmd,
    ) -> Result<T, Fault> {
        within(self.options.request_deadline, question.query_async(connection)).await
    }

    /// Whether `address` is still who is asked about `shard`, as far as is known.
    pub(crate) fn leads_to(&self, address: &Address, shard: Shard) -> bool {
        self.topology.known(Home::Shard(shard)).is_none_or(|known| known == *address)
    }

    /// Makes sure that the prefix is laid out as we lay it out.
    async fn verify(&self) -> Result<(), Fault> {
        let ours = [FORMAT.to_string(), self.keyspace.len().to_string()];
        let args = [ours[0].as_bytes(), ours[1].as_bytes()];
        let call =
            Call { script: &scripts::LAYOUT, home: Home::Layout, args: &args, ack: Ack::Primary };
        let [format, shards]: [String; 2] = self.call(&call).await?;
        if [&format, &shards] != [&ours[0], &ours[1]] {
            return Err(Fault::Layout { format, shards, ours: ours.join(", ") });
        }
        self.is_verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn call<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, Fault> {
        let (mut hops, mut asked) = (0, None);
        loop {
            let is_asked = asked.is_some();
            let standing = if is_asked { None } else { self.standing(call) };
            let (address, session) = match standing {
                Some(standing) => standing,
                None => Box::pin(self.reach(call, asked.take())).await?,
            };
            if call.home != Home::Layout && !self.is_verified.load(Ordering::Relaxed) {
                Box::pin(self.verify()).await?;
            }
            let made = session.run(self, call, is_asked);
            let outcome = within(self.options.request_deadline, made).await;
            let Err(fault) = outcome else { return outcome };
            if fault.breaks_connection() {
                session.give_up();
                self.topology.doubt(&address);
            }
            hops += 1;
            match fault.redirect(&address) {
                Some(redirect) if self.is_cluster() && hops <= MOST_HOPS => match redirect {
                    Redirect::Moved(to) => self.topology.learn(call.home, to),
                    Redirect::Asked(to) => asked = Some(to),
                },
                _ => return Err(fault),
            }
        }
    }

    /// The connection that stands to whoever is to be asked, as far as is known.
    fn standing(&self, call: &Call<'_>) -> Option<(Address, Arc<Session>)> {
        let address = self.topology.known(call.home)?;
        let way = Way { address: address.clone(), waits: call.ack != Ack::Primary };
        let slot = self.sessions().get(&way)?.clone();
        let session = slot.try_lock().ok()?.clone()?;
        (!session.is_given_up()).then_some((address, session))
    }

    /// A connection to whoever is to be asked, or to `asked`. One that cannot be reached was asked for
    /// nothing yet, so that it is the turn of the next.
    async fn reach(
        &self,
        call: &Call<'_>,
        asked: Option<Address>,
    ) -> Result<(Address, Arc<Session>), Fault> {
        let waits = call.ack != Ack::Primary;
        let mut tried = None;
        let reached = within(self.options.connect_deadline, async {
            let mut left = if asked.is_some() { 1 } else { self.topology.candidates() };
            loop {
                let address = match &asked {
                    Some(asked) => asked.clone(),
                    None => self.topology.locate(call.home).await?,
                };
                tried = Some(address.clone());
                left -= 1;
                let fault = match self.session(&Way { address: address.clone(), waits }).await {
                    Ok(session) => return Ok((address, session)),
                    Err(fault) => fault,
                };
                if !fault.is_about_the_server() || left == 0 {
                    return Err(fault);
                }
                self.topology.doubt(&address);
            }
        });
        let reached = reached.await;
        if let (Err(fault), Some(tried)) = (&reached, &tried)
            && fault.is_about_the_server()
        {
            self.topology.doubt(tried);
        }
        reached
    }

    /// The connection for commands, made now if there is none.
    ///
    /// Callers wait here for whoever is connecting, each no longer than the deadline.
    async fn session(&self, way: &Way) -> Result<Arc<Session>, Fault> {
        let slot = {
            let mut sessions = self.sessions();
            if let Some(slot) = sessions.get(way) {
                slot.clone()
            } else {
                sessions.retain(|_, slot| is_in_use(slot));
                sessions.entry(way.clone()).or_default().clone()
            }
        };
        let mut slot = slot.lock().await;
        if let Some(session) = &*slot
            && !session.is_given_up()
        {
            return Ok(session.clone());
        }
        *slot = None;
        let session = Arc::new(Session::greet(self, &way.address, "registry").await?);
        if !self.is_cluster() {
            // There may be another server than before. The nodes of a Cluster vouch for each other, and one
            // that is down must not keep us from what lies on the others.
            self.is_verified.store(false, Ordering::Relaxed);
        }
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Held for a moment, and nothing panics meanwhile.
    fn sessions(&self) -> MutexGuard<'_, HashMap<Way, Arc<Slot>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is a connection, or one is being made. What is left are servers of long ago.
fn is_in_use(slot: &Slot) -> bool {
    let session = slot.try_lock();
    session.map_or(true, |session| session.as_ref().is_some_and(|session| !session.is_given_up()))
}

/// The servers as people know them: without the password.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topology, self.dialer.database)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self}, prefix `{}`)", self.keyspace.prefix())
    }
}

/// A connection that reads logs as they grow. To drop it closes it, and ends a read under way.
pub(crate) struct FeedLink {
    address: Address,
    connection: MultiplexedConnection,
    patience: Duration,
}

impl FeedLink {
    /// How long the server waits for a log to grow. A connection that was cut without a word is
    /// noticed soon after.
    const BLOCK: Duration = Duration::from_secs(5);
    /// How many entries of each log come in one reply.
    const PAGE: usize = 256;

    /// Where it leads.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Waits until one of the `logs` has entries after the revision given with it, and reads them.
    /// Nothing, if that takes long.
    pub(crate) async fn read(&mut self, logs: &[(String, u64)]) -> Result<Vec<RawLog>, Fault> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(Self::PAGE).arg("BLOCK").arg(Self::BLOCK.as_secs() * 1000);
        read.arg("STREAMS");
        for (log, _) in logs {
            read.arg(log);
        }
        for (_, revision) in logs {
            read.arg(format!("{revision}-0"));
        }
        within(self.patience, async {
            let grown: Option<Vec<RawLog>> = read.query_async(&mut self.connection).await?;
            Ok::<_, Fault>(grown.unwrap_or_default())
        })
        .await
    }
}

/// What was read from one log: its key and the entries.
pub(crate) type RawLog = (String, Vec<RawEntry>);

async fn within<T, E: Into<Fault>>(
    deadline: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(deadline, work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(Fault::Deadline(deadline)),
    }
}
