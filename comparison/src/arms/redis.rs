//! Redis through its raw client.

use super::etcd::RAW_PREFIX;
use super::{Arm, Request, decoded};
use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script};
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};
use std::sync::LazyLock;

/// The page length of the registry.
const PAGE_LEN: usize = 1000;

/// The `redis` crate, with one script per call. Its writes are comparable with the registry's, but go to seven keys,
/// not four. The scripts that write check nothing, chain no digests and expire no leases. Calls have no deadlines.
///
/// Like the registry it has a connection for commands and one for blocking reads, which serves one watch at a time.
#[derive(Clone)]
pub struct RawRedis {
    commands: MultiplexedConnection,
    reads: MultiplexedConnection,
}

/// The handle to renew and end a registration.
pub struct RawLease {
    service: ServiceName,
    /// The service and the instance id.
    member: String,
    lease_id: String,
}

/// A reader of the log of a service.
pub struct LogReader {
    service: ServiceName,
    key: String,
    /// The id of the last entry that was read.
    position: String,
}

/// An entry: its id, and alternating field names and values. The fields are the type `t` (`P` for a put, `D` for a
/// deletion), the member `m`, the record `v`, the ttl `x`, the previous digest `p` and the digest `d`.
type LogEntry = (String, Vec<Vec<u8>>);

static REGISTER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local rev = redis.call('INCR', KEYS[1])
        redis.call('XADD', KEYS[7], 'MAXLEN', '~', 10000, rev .. '-0',
          't', 'P', 'm', ARGV[1], 'v', ARGV[4], 'x', ARGV[3], 'p', ARGV[5], 'd', ARGV[5])
        redis.call('HSET', KEYS[2], ARGV[1], rev .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
        redis.call('HSET', KEYS[4], ARGV[2], ARGV[1])
        redis.call('ZADD', KEYS[3], 0, ARGV[1])
        redis.call('HINCRBY', KEYS[6], ARGV[6], 1)
        redis.call('ZADD', KEYS[5], ARGV[7], ARGV[1])
        return { 'OK', rev }",
    )
});

static KEEP_ALIVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
        return { 'OK' }",
    )
});

static DEREGISTER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local rev = redis.call('INCR', KEYS[1])
        redis.call('XADD', KEYS[7], 'MAXLEN', '~', 10000, rev .. '-0',
          't', 'D', 'm', ARGV[1], 'v', '', 'x', '0', 'p', ARGV[3], 'd', ARGV[3])
        redis.call('HDEL', KEYS[2], ARGV[1])
        redis.call('HDEL', KEYS[4], ARGV[2])
        redis.call('ZREM', KEYS[5], ARGV[1])
        redis.call('ZREM', KEYS[3], ARGV[1])
        redis.call('HINCRBY', KEYS[6], ARGV[4], -1)
        return 'OK'",
    )
});

static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local members = redis.call('ZRANGEBYLEX', KEYS[3],
          ARGV[2] == '' and '[' .. ARGV[1] .. '\\31' or '(' .. ARGV[2],
          '(' .. ARGV[1] .. '\\32', 'LIMIT', 0, tonumber(ARGV[3]))
        if not members[1] then return { members, {} } end
        return { members, redis.call('HMGET', KEYS[2], unpack(members)) }",
    )
});

const DUMMY_DIGEST: &str = "0123456789abcdef"; // as long as the registry's digests
const DUMMY_DEADLINE: &str = "1790000000000"; // of all leases, in ms since 1970

/// Connects to `redis://[user:password@]host[:port][/database]` with the connection settings of the registry.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let info = url.into_connection_info()?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}

impl RawRedis {
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self { commands: connect(url).await?, reads: connect(url).await? })
    }

    /// Returns the lease of a registration without a request to the server.
    pub fn lease(request: &Request) -> RawLease {
        let service = request.instance.service().clone();
        let member = format!("{service}\u{1f}{}", request.instance.id());
        RawLease { service, member, lease_id: request.claim.lease().to_string() }
    }
}

impl Arm for RawRedis {
    type Lease = RawLease;
    type Cursor = String;
    type Watch = LogReader;
    type Loaded = Vec<Record>;

    async fn register(&self, request: &Request) -> Result<RawLease> {
        let lease = Self::lease(request);
        let ttl = request.ttl_millis()?.to_string();
        let mut call = REGISTER.key(&keys(&lease.service)[..]);
        call.arg(&lease.member).arg(&lease.lease_id).arg(&ttl).arg(request.record()?);
        call.arg(DUMMY_DIGEST).arg(lease.service.as_str()).arg(DUMMY_DEADLINE);
        let (status, _): (String, u64) = call.invoke_async(&mut self.commands.clone()).await?;
        ensure!(status == "OK", "{status}");
        Ok(lease)
    }

    async fn keep_alive(&self, lease: &RawLease) -> Result<()> {
        let mut call = KEEP_ALIVE.key(&keys(&lease.service)[..]);
        call.arg(&lease.member).arg(DUMMY_DEADLINE);
        let (status,): (String,) = call.invoke_async(&mut self.commands.clone()).await?;
        ensure!(status == "OK", "{status}");
        Ok(())
    }

    async fn deregister(&self, lease: RawLease) -> Result<()> {
        let mut call = DEREGISTER.key(&keys(&lease.service)[..]);
        call.arg(&lease.member).arg(&lease.lease_id).arg(DUMMY_DIGEST).arg(lease.service.as_str());
        let status: String = call.invoke_async(&mut self.commands.clone()).await?;
        ensure!(status == "OK", "{status}");
        Ok(())
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let (mut records, mut last_member) = (Vec::new(), Vec::new());
        loop {
            let mut call = LOAD.key(&keys(service)[..]);
            call.arg(service.as_str()).arg(&last_member).arg(PAGE_LEN);
            let (mut members, values): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
                call.invoke_async(&mut self.commands.clone()).await?;
            for (member, value) in members.iter().zip(&values) {
                let id = id(service, member)?;
                // A value is the revision, the lease, the ttl and the record.
                let record = value.splitn(4, |byte| *byte == b' ').nth(3).context("no record")?;
                records.push(decoded(service, &id, record)?);
            }
            match members.pop() {
                Some(member) if values.len() == PAGE_LEN => last_member = member,
                _ => return Ok(records),
            }
        }
    }

    async fn cursor(&self, service: &ServiceName) -> Result<String> {
        let [key, ..] = keys(service);
        let revision: Option<u64> =
            redis::cmd("GET").arg(key).query_async(&mut self.commands.clone()).await?;
        Ok(format!("{}-0", revision.unwrap_or_default()))
    }

    async fn watch(&self, service: &ServiceName, position: &String) -> Result<LogReader> {
        let (service, [.., key]) = (service.clone(), keys(service));
        Ok(LogReader { service, key, position: position.clone() })
    }

    async fn next(&self, log: &mut LogReader) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(PAGE_LEN).arg("BLOCK").arg(5_000);
        read.arg("STREAMS").arg(&log.key).arg(&log.position);
        let streams: Option<Vec<(String, Vec<LogEntry>)>> =
            read.query_async(&mut self.reads.clone()).await?;
        let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        for (entry_id, fields) in entries {
            log.position = entry_id;
            let field = |n: usize| fields.get(n).context("a log entry lacks a field");
            let member = field(3)?;
            let id = id(&log.service, member)?;
            changes.push(if field(1)? == b"P" {
                Change::Put(decoded(&log.service, &id, field(5)?)?)
            } else {
                Change::Delete(Deleted::new(id))
            });
        }
        Ok(changes)
    }

    fn position(&self, log: &LogReader) -> String {
        log.position.clone()
    }
}

fn id(service: &ServiceName, member: &[u8]) -> Result<InstanceId> {
    let id = member.strip_prefix(service.as_str().as_bytes());
    let id = id.and_then(|id| id.strip_prefix(b"\x1f")).context("a member of another service")?;
    Ok(InstanceId::new(str::from_utf8(id)?)?)
}

/// Returns the keys of a service, which has its own shard: the revision `meta`, the values `inst`, the sorted members
/// `idx`, the members of leases `lease`, the deadlines `exp`, the number of instances `svc`, and the log.
fn keys(service: &ServiceName) -> [String; 7] {
    let keys = ["meta", "inst", "idx", "lease", "exp", "svc", "log"];
    keys.map(|key| format!("{{{RAW_PREFIX}/{service}}}:{key}"))
}
