//! Connections to the server: one for commands, made when it is needed, and one for each feed.
//!
//! No call is ever repeated here. A connection that failed is not used again; the next call makes
//! another. The client's own reconnecting connection hides when that happens, and its shared
//! connection never reconnects, so a slot of our own holds the latter.

use crate::error::Fault;
use crate::options::RedisOptions;
use crate::shard::{FORMAT, Keyspace, Shard};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Script,
};
use registry_core::Secret;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Where the server is, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
}

/// The way to a prefix on a server.
pub(crate) struct Link {
    server: Server,
    keyspace: Keyspace,
    client: Client,
    options: RedisOptions,
    session: Mutex<Option<Arc<Session>>>,
}

/// A connection that was greeted.
struct Session {
    connection: MultiplexedConnection,
    run_id: String,
    broken: AtomicBool,
}

impl Link {
    /// Connects, so that what is wrong with the server or the options is said at once.
    pub(crate) async fn connect(
        server: Server,
        prefix: &str,
        options: RedisOptions,
    ) -> Result<Self, Fault> {
        let info = ConnectionAddr::Tcp(server.host.clone(), server.port).into_connection_info()?;
        // The client leaves Nagle's algorithm on, which holds back calls made while one is under way.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        // It would also log in on its own, and call every refusal a wrong password, even that the
        // server has too many clients: `dial` logs in instead.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let client = Client::open(info.set_redis_settings(settings))?;
        let keyspace = Keyspace::new(prefix, options.shards);
        let link = Self { server, keyspace, client, options, session: Mutex::new(None) };
        link.session().await?;
        Ok(link)
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Runs `script` on `shard`: one call, but for a server that does not know the script yet.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        shard: Shard,
        args: &[&[u8]],
    ) -> Result<T, Fault> {
        let session = self.session().await?;
        let mut call = script.prepare_invoke();
        call.key(self.keyspace.keys(shard));
        call.arg(&session.run_id).arg(self.options.log_cap).arg(args);
        let mut connection = session.connection.clone();
        let deadline = self.options.request_deadline;
        let outcome = within(deadline, call.invoke_async(&mut connection)).await;
        if outcome.as_ref().is_err_and(Fault::breaks_connection) {
            session.broken.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// A connection of its own that answers only when a log has grown.
    pub(crate) async fn feed(&self) -> Result<FeedLink, Fault> {
        let greeted = within(self.options.connect_deadline, self.greet("registry-feed")).await?;
        let connection = greeted.connection;
        Ok(FeedLink { connection, patience: FeedLink::BLOCK + self.options.request_deadline })
    }

    /// The command connection, made now if there is none.
    ///
    /// Callers wait here for whoever is connecting, each no longer than the deadline.
    async fn session(&self) -> Result<Arc<Session>, Fault> {
        within(self.options.connect_deadline, async {
            let mut slot = self.session.lock().await;
            if let Some(session) = &*slot
                && !session.broken.load(Ordering::Relaxed)
            {
                return Ok::<_, Fault>(session.clone());
            }
            *slot = None;
            let session = Arc::new(self.greet("registry").await?);
            *slot = Some(session.clone());
            Ok(session)
        })
        .await
    }

    /// Connects, and makes sure that the prefix is laid out as we lay it out. That is a write, so a
    /// replica does not pass.
    async fn greet(&self, name: &str) -> Result<Session, Fault> {
        let mut connection = self.dial(name).await?;
        let (layout, ours) = (self.keyspace.layout(), self.keyspace.len());
        let mut greeting = redis::pipe();
        greeting.cmd("INFO").arg("server");
        greeting.cmd("HSETNX").arg(layout).arg("format").arg(FORMAT).ignore();
        greeting.cmd("HSETNX").arg(layout).arg("shards").arg(ours).ignore();
        greeting.cmd("HMGET").arg(layout).arg("format").arg("shards");
        let (info, (format, shards)): (String, (String, String)) =
            greeting.query_async(&mut connection).await?;
        if format != FORMAT.to_string() || shards != ours.to_string() {
            let ours = format!("{FORMAT}, {ours}");
            return Err(Fault::Layout { format, shards, ours });
        }
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run_id = run_id.ok_or(Fault::NoRunId)?.trim_end().to_owned();
        tracing::debug!(server = %self, %run_id, name, "connected");
        Ok(Session { connection, run_id, broken: AtomicBool::new(false) })
    }

    /// Connects and logs in.
    async fn dial(&self, name: &str) -> Result<MultiplexedConnection, Fault> {
        // Deadlines are ours. The client's own, of 500 ms, would end every blocking read, and leave
        // the connection to a server that still blocks.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut login = redis::pipe();
        if self.server.user.is_some() || self.server.password.is_some() {
            let password = self.server.password.as_ref().map_or("", Secret::reveal);
            login.cmd("AUTH").arg(&self.server.user).arg(password).ignore();
        }
        if self.server.database != 0 {
            login.cmd("SELECT").arg(self.server.database).ignore();
        }
        login.cmd("CLIENT").arg("SETNAME").arg(name).ignore();
        login.exec_async(&mut connection).await?;
        Ok(connection)
    }
}

/// The server as people know it: without the password.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, database, .. } = &self.server;
        write!(f, "{host}:{port}/{database}")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self}, prefix `{}`)", self.keyspace.prefix())
    }
}

/// A connection that reads logs as they grow. To drop it closes it, and ends a read under way.
pub(crate) struct FeedLink {
    connection: MultiplexedConnection,
    patience: Duration,
}

impl FeedLink {
    /// How long the server waits for a log to grow. A connection that was cut without a word is
    /// noticed soon after.
    const BLOCK: Duration = Duration::from_secs(5);
    /// How many entries of each log come in one reply.
    const PAGE: usize = 256;

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
pub(crate) type RawLog = (String, Vec<crate::history::RawEntry>);

async fn within<T, E: Into<Fault>>(
    deadline: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(deadline, work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(Fault::Deadline(deadline)),
    }
}
