//! Redis by its raw client.

use super::{Arm, Expirations, Request, decoded};
use crate::harness::operator::trim;
use anyhow::{Context, Result, ensure};
use futures_util::stream::{StreamExt, TryStreamExt};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Value, from_redis_value};
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};
use std::collections::HashMap;
use std::time::Duration;

/// What a user of the `redis` crate writes by hand: a key with a ttl for each lease, a hash with the
/// records of a service, a stream with its changes.
///
/// | operation | requests | what it does not guarantee |
/// | --- | --- | --- |
/// | register | one pipeline: `SET PX`, `HSET`, `XADD` | that all three happen, or none; a repeat is another change; whoever holds the id is overwritten |
/// | `keep_alive` | one `PEXPIRE` | that the record is still there |
/// | load | one `HGETALL`, decoded | that listed instances are alive: an expired one stays in the hash, without an event |
/// | watch | `XREAD BLOCK` in a loop, read by the consumer | that nothing was trimmed, lost or rolled back in between |
/// | resync | `XINFO STREAM` to see that something was trimmed, and where to read on; `HGETALL` | that anything was missed: it does not know what was read before it was trimmed |
/// | expirations | the keys' own expiry, as the server notifies of it (`Ex`) | delivery: a client that is not subscribed at that moment misses it |
///
/// It has two connections, one for commands and one for blocking reads, as the registry has. The second
/// serves one watch at a time.
#[derive(Clone)]
pub struct RawRedis {
    client: Client,
    commands: MultiplexedConnection,
    reads: MultiplexedConnection,
}

/// A lease: the key that its ttl hangs on, and what to take away with it.
pub struct RawLease {
    key: String,
    service: ServiceName,
    id: InstanceId,
}

/// A stream, and how far it was read.
pub struct LogWatch {
    service: ServiceName,
    log: String,
    last: String,
}

/// An entry: its id, and pairs of an instance id and its record.
type LogEntry = (String, Vec<(String, Vec<u8>)>);

/// How many changes a stream keeps: what the registry keeps by default.
const LOG_CAP: usize = 10_000;

/// How long a read blocks.
const BLOCK: Duration = Duration::from_secs(5);

impl RawRedis {
    /// Connects to a server, `redis://[user:password@]host[:port][/database]`.
    pub async fn connect(url: &str) -> Result<Self> {
        let client = Client::open(url)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(2 * BLOCK));
        Ok(Self {
            commands: client.get_multiplexed_async_connection().await?,
            reads: client.get_multiplexed_async_connection_with_config(&config).await?,
            client,
        })
    }

    /// What the server says of itself: its version, and what it does with a write.
    pub async fn describe(&self) -> Result<String> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("server");
        pipe.cmd("CONFIG").arg("GET").arg("append*");
        pipe.cmd("CONFIG").arg("GET").arg("save");
        let (info, append, save): (String, HashMap<String, String>, HashMap<String, String>) =
            pipe.query_async(&mut self.commands.clone()).await?;
        let of = |name| info.lines().find_map(|line| line.strip_prefix(name));
        let version = match of("valkey_version:") {
            Some(version) => format!("valkey {version}"),
            None => format!("redis {}", of("redis_version:").unwrap_or("of unknown version")),
        };
        let setting = |of: &HashMap<_, String>, name| of.get(name).cloned().unwrap_or_default();
        let log = match setting(&append, "appendonly").as_str() {
            "yes" => format!("append-only file, fsync {}", setting(&append, "appendfsync")),
            _ => "no append-only file".to_owned(),
        };
        let snapshots =
            if setting(&save, "save").is_empty() { "no snapshots" } else { "snapshots" };
        Ok(format!("{version}, {log}, {snapshots}"))
    }
}

impl Arm for RawRedis {
    type Lease = RawLease;
    type Cursor = String;
    type Watch = LogWatch;
    type Loaded = Vec<Record>;

    async fn register(&self, request: &Request) -> Result<RawLease> {
        let (service, id) = (request.instance.service(), request.instance.id());
        let record = request.record()?;
        let key = key(service, &format!("lease:{}:{id}", request.claim.lease()));
        let ttl = request.ttl_millis()?;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(&key).arg(id.as_str()).arg("PX").arg(ttl).ignore();
        pipe.cmd("HSET").arg(hash(service)).arg(id.as_str()).arg(&record).ignore();
        append(&mut pipe, service, id, &record);
        pipe.exec_async(&mut self.commands.clone()).await?;
        Ok(RawLease { key, service: service.clone(), id: id.clone() })
    }

    async fn keep_alive(&self, lease: &RawLease) -> Result<()> {
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&lease.key).arg(u64::try_from(super::TTL.as_millis())?);
        let there: bool = expire.query_async(&mut self.commands.clone()).await?;
        there.then_some(()).context("the lease is gone")
    }

    async fn deregister(&self, lease: RawLease) -> Result<()> {
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(&lease.key).ignore();
        pipe.cmd("HDEL").arg(hash(&lease.service)).arg(lease.id.as_str()).ignore();
        append(&mut pipe, &lease.service, &lease.id, b"");
        Ok(pipe.exec_async(&mut self.commands.clone()).await?)
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let mut all = redis::cmd("HGETALL");
        let found: Vec<(String, Vec<u8>)> =
            all.arg(hash(service)).query_async(&mut self.commands.clone()).await?;
        let mut instances = Vec::with_capacity(found.len());
        for (id, record) in found {
            instances.push(decoded(service, &InstanceId::new(id)?, &record)?);
        }
        Ok(instances)
    }

    async fn cursor(&self, service: &ServiceName) -> Result<String> {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(log(service)).arg("+").arg("-").arg("COUNT").arg(1);
        let last: Vec<LogEntry> = last.query_async(&mut self.commands.clone()).await?;
        Ok(last.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id))
    }

    /// Only remembers where to read on: a stream needs no opening.
    async fn watch(&self, service: &ServiceName, last: &String) -> Result<LogWatch> {
        Ok(LogWatch { service: service.clone(), log: log(service), last: last.clone() })
    }

    async fn next(&self, watch: &mut LogWatch) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let read: Vec<LogEntry> = read_log(&self.reads, &watch.log, (&watch.last, 256)).await?;
        for (last, pairs) in read {
            watch.last = last;
            for (id, record) in pairs {
                let id = InstanceId::new(id)?;
                changes.push(if record.is_empty() {
                    Change::Delete(Deleted::new(id))
                } else {
                    Change::Put(decoded(&watch.service, &id, &record)?)
                });
            }
        }
        Ok(changes)
    }

    fn position(&self, watch: &LogWatch) -> String {
        watch.last.clone()
    }

    async fn compact(&self, service: &ServiceName) -> Result<()> {
        trim(&mut self.commands.clone(), [log(service)].into_iter()).await
    }

    /// A read after an entry that was trimmed silently continues at the next one, so this checks first.
    async fn resync(&self, service: &ServiceName, compacted: &String) -> Result<(usize, LogWatch)> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(log(service));
        let info: HashMap<String, Value> = info.query_async(&mut self.commands.clone()).await?;
        let newest = info.get("last-generated-id").context("a stream without a newest entry")?;
        let newest: String = from_redis_value(newest.clone())?;
        let first = match info.get("first-entry") {
            None | Some(Value::Nil) => None,
            Some(entry) => Some(from_redis_value::<(String, Value)>(entry.clone())?.0),
        };
        let at = position(compacted)?;
        let next = first.as_deref().map(position).transpose()?;
        let is_trimmed = at < position(&newest)? && next.is_none_or(|next| at < next);
        ensure!(is_trimmed, "nothing was trimmed");
        Ok((self.load(service).await?.len(), self.watch(service, &newest).await?))
    }

    async fn expirations(&self, service: &ServiceName) -> Result<Expirations> {
        let mut notify = redis::cmd("CONFIG");
        notify.arg("SET").arg("notify-keyspace-events").arg("Ex");
        notify.exec_async(&mut self.commands.clone()).await?;
        let mut events = self.client.get_async_pubsub().await?;
        events.psubscribe("__keyevent@*__:expired").await?;
        let prefix = key(service, "lease:");
        let ids = events.into_on_message().map(Ok).try_filter_map(move |event| {
            let key = event.get_payload::<String>();
            let id = key.map(|key| {
                let (_, id) = key.strip_prefix(&prefix)?.split_once(':')?;
                Some(InstanceId::new(id))
            });
            async { Ok(id?.transpose()?) }
        });
        Ok(ids.boxed_local())
    }
}

/// Reads the next entries of a stream, and waits for them.
pub(super) async fn read_log<E: FromRedisValue>(
    reads: &MultiplexedConnection,
    log: &str,
    (last, most): (&str, u32),
) -> Result<Vec<E>> {
    let mut read = redis::cmd("XREAD");
    read.arg("COUNT").arg(most).arg("BLOCK").arg(u64::try_from(BLOCK.as_millis())?);
    read.arg("STREAMS").arg(log).arg(last);
    let logs: Option<Vec<(String, Vec<E>)>> = read.query_async(&mut reads.clone()).await?;
    Ok(logs.into_iter().flatten().flat_map(|(_, entries)| entries).collect())
}

/// Adds the record of an instance to the stream, or that it is gone.
fn append(pipe: &mut redis::Pipeline, service: &ServiceName, id: &InstanceId, record: &[u8]) {
    let add = pipe.cmd("XADD").arg(log(service)).arg("MAXLEN").arg("~").arg(LOG_CAP);
    add.arg("*").arg(id.as_str()).arg(record).ignore();
}

/// An id of a stream's entries, in the order that they are in.
fn position(id: &str) -> Result<(u64, u64)> {
    let (time, number) = id.split_once('-').context("not the id of an entry")?;
    Ok((time.parse()?, number.parse()?))
}

fn log(service: &ServiceName) -> String {
    key(service, "log")
}

fn hash(service: &ServiceName) -> String {
    key(service, "records")
}

fn key(service: &ServiceName, what: &str) -> String {
    format!("comparison-raw:{service}:{what}")
}
