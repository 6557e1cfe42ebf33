//! The errors of this store, and their kinds.

use crate::connect::{Address, Violation};
use redis::{ErrorKind as RedisKind, RedisError};
use registry_core::{Error, ErrorKind, Holder};
use std::io;
use std::time::Duration;

/// The error of a call or a watch. It is cloned for each watch that it ends.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("redis did not answer in time, deadline=`{0:?}`")]
    Deadline(Duration),
    #[error(
        "the server did not answer in time: if it does not use TLS, connect to it with redis://, deadline=`{0:?}`"
    )]
    NoHandshake(Duration),
    #[error("{}", describe(kind_of(.0)))]
    Redis(#[source] RedisError),
    #[error("{error}, server=`{server}`")]
    At { server: Address, error: Box<Self> },
    #[error("{0}")]
    Protocol(Violation),
    #[error(
        "the server closed the connection without a reply: if it requires TLS, use rediss://; otherwise check host and port"
    )]
    ClosedUnanswered,
    #[error("the server does not speak TLS: connect to it with redis://")]
    NotTls,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "it only occurs with TLS"))]
    #[error("the server's certificate is not trusted: check the option `ca`, reason=`{0}`")]
    Untrusted(String),
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "it only occurs with TLS"))]
    #[error(
        "the server refused the client's certificate, or requires one: check the options `cert` and `key`, alert=`{0}`"
    )]
    CertificateRefused(String),
    #[error("`INFO server` has no `run_id`: this library does not support the server")]
    MissingRunId,
    #[error(
        "the prefix was first used with another layout: use another prefix, format=`{format}`, shards=`{shards}`, ours=`{ours}`"
    )]
    LayoutMismatch { format: String, shards: String, ours: String },
    #[error("the server {0}: connect to it with {1}://")]
    WrongTopology(&'static str, &'static str),
    #[error("the server is a replica, or has become one: retry")]
    NotPrimary,
    #[error(
        "the server may evict any key, including the registry's: set its maxmemory-policy to `noeviction` or `volatile-*`, policy=`{0}`"
    )]
    EvictionPolicy(String),
    #[error(
        "the primary has the write, but too few replicas do: retry, wanted=`{wanted}`, had=`{had}`"
    )]
    Unreplicated { wanted: u32, had: u32 },
    #[error("the primary has the write in memory, but not yet on disk: retry")]
    NotFsynced,
    #[error("the server keeps sending {0} beyond the limit")]
    Endless(&'static str),
    #[error("a script returned an unexpected reply, reply=`{0}`")]
    UnexpectedReply(String),
    #[error("another lease holds the instance id: take it over, or use another id, holder=`{0}`")]
    Superseded(Holder),
    /// The caller's arguments are invalid.
    #[error("{0}")]
    Unusable(#[source] Error),
    #[error("the lease or its last acknowledged record is gone: register again")]
    LeaseLost,
    #[error("the lease id is in use with another ttl: use a new lease id")]
    TtlMismatch,
    #[error("the lease id is in use for another instance: use a new lease id")]
    InstanceMismatch,
    #[error("the registry is read-only: remove `access=read` from the URL to register")]
    ReadOnly,
    #[error("the history after the cursor was trimmed: load again")]
    Compacted,
    #[error("the history of the cursor was rolled back, wiped or replaced: load again")]
    Diverged,
    #[error("another program wrote to the log of the shard: watch again")]
    ForeignEntries,
    #[error("the history changed while it was being read: retry")]
    HistoryChanged,
    #[error("too many watches are being opened at once: watch again")]
    TooManyWatches,
    #[error("the feed ended: watch again")]
    FeedEnded,
    #[error("the shard has moved to another server: watch again")]
    ShardMoved,
    #[error("the server of the feed receives no changes, but another server does: watch again")]
    FeedStalled,
}

impl StoreError {
    /// Returns the kind of the error: what the caller should do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Redis(error) => kind_of(error),
            Self::Deadline(_)
            | Self::NoHandshake(_)
            | Self::HistoryChanged
            | Self::ForeignEntries
            | Self::TooManyWatches
            | Self::FeedEnded
            | Self::NotPrimary
            // Another server may listen there briefly, as behind a proxy. That must not end a registration.
            | Self::Protocol(Violation::NotRedis(_))
            | Self::NotTls
            | Self::ClosedUnanswered
            | Self::Unreplicated { .. }
            | Self::NotFsynced
            | Self::ShardMoved
            | Self::FeedStalled => ErrorKind::Unavailable,
            Self::MissingRunId
            | Self::WrongTopology(..)
            | Self::EvictionPolicy(_)
            | Self::LayoutMismatch { .. }
            | Self::TtlMismatch
            | Self::InstanceMismatch => ErrorKind::Invalid,
            Self::UnexpectedReply(_) | Self::Endless(_) | Self::Protocol(Violation::TooLarge) => {
                ErrorKind::Internal
            }
            Self::Superseded(_) => ErrorKind::Superseded,
            Self::Unusable(error) => error.kind(),
            Self::At { error, .. } => error.kind(),
            Self::Untrusted(_) | Self::CertificateRefused(_) | Self::ReadOnly => ErrorKind::Denied,
            Self::LeaseLost => ErrorKind::LeaseLost,
            Self::Compacted => ErrorKind::Compacted,
            Self::Diverged => ErrorKind::Diverged,
        }
    }

    /// Returns whether the connection must not be used again.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::Deadline(_) | Self::Protocol(_) => true,
            Self::At { error, .. } => error.breaks_connection(),
            Self::Redis(error) => {
                matches!(error.kind(), RedisKind::Io | RedisKind::Parse)
                    || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
                    || self.is_demotion()
            }
            _ => false,
        }
    }

    /// Returns whether another server may succeed.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// Returns whether the server has become a replica. A new connection may lead to its successor.
    pub(crate) fn is_demotion(&self) -> bool {
        match self {
            Self::Redis(error) => {
                matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "UNBLOCKED"))
            }
            Self::NotPrimary => true,
            Self::At { error, .. } => error.is_demotion(),
            _ => false,
        }
    }

    /// Returns whether the connection failed.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == RedisKind::Io)
    }

    /// Adds the server, if the error is about it.
    pub(crate) fn at(self, server: &Address) -> Self {
        match self {
            Self::Deadline(_)
            | Self::NoHandshake(_)
            | Self::Redis(_)
            | Self::Protocol(_)
            | Self::ClosedUnanswered
            | Self::NotTls
            | Self::Untrusted(_)
            | Self::CertificateRefused(_)
            | Self::MissingRunId
            | Self::WrongTopology(..)
            | Self::NotPrimary
            | Self::EvictionPolicy(_) => Self::At { server: server.clone(), error: Box::new(self) },
            other => other,
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Redis(error.into())
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl StoreError {
    /// Returns the error with which a watch ends. It counts as silence if the server gave no reply in time.
    pub(crate) fn of_watch(&self) -> Error {
        match self {
            Self::Deadline(limit) => Error::silent(*limit),
            Self::At { error, .. } if matches!(**error, Self::Deadline(_)) => {
                error.of_watch().with_source(self.clone())
            }
            error => error.clone().into(),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let public = Self::new(error.kind(), error.to_string());
        let error = match error {
            StoreError::At { error, .. } => *error,
            error => error,
        };
        match error {
            StoreError::Redis(source) => public.with_source(source),
            StoreError::Unusable(error) => error,
            StoreError::Superseded(holder) => public.with_holder(holder),
            _ => public,
        }
    }
}

/// Returns the kind of an error of the redis crate, by the code that the server sent.
///
/// The text may contain a prefix, which users choose, so codes are not searched in it. A server before 7.0 wraps the
/// error of a command in a script: `ERR Error running script (call to f_...): @user_script:1: -OOM command ...`.
fn kind_of(error: &RedisError) -> ErrorKind {
    if error.kind() == RedisKind::Io {
        return ErrorKind::Unavailable;
    }
    let errors = error.clone().into_server_errors();
    let known = errors.iter().flat_map(|errors| errors.iter()).find_map(|(_, error)| {
        let details = error.details().unwrap_or_default();
        let wrapped = || details.split(' ').find_map(|word| kind_of_code(word.strip_prefix('-')?));
        let prose =
            || PROSE.iter().find(|(prose, _)| details.contains(prose)).map(|(_, kind)| *kind);
        kind_of_code(error.code()).or_else(prose).or_else(wrapped)
    });
    known.unwrap_or(ErrorKind::Internal)
}

fn kind_of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" | "-DENIED" => ErrorKind::Denied,
        "LOADING" | "BUSY" | "TRYAGAIN" | "OOM" | "MISCONF" | "READONLY" | "MASTERDOWN"
        | "NOREPLICAS" | "UNBLOCKED" | "CLUSTERDOWN" | "MOVED" | "ASK" => ErrorKind::Unavailable,
        "WRONGTYPE" | "CROSSSLOT" => ErrorKind::Invalid,
        _ => return None,
    })
}

/// Parts of error messages that have no code of their own.
const PROSE: &[(&str, ErrorKind)] = &[
    ("a key of the registry has a later format", ErrorKind::Invalid),
    ("without any password configured", ErrorKind::Denied),
    ("ACL failure", ErrorKind::Denied),
    ("can't run this command", ErrorKind::Denied),
    ("can't access at least one of the keys", ErrorKind::Denied),
    ("max number of clients", ErrorKind::Unavailable),
    ("DB index is out of range", ErrorKind::Invalid),
    ("WAITAOF", ErrorKind::Invalid),
    ("No such master", ErrorKind::Invalid),
];

/// Describes a failed call. The server's own message follows as the source.
fn describe(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => "redis refused the credentials, or they lack permissions",
        ErrorKind::Invalid => {
            "redis cannot serve this: the prefix is used by another program, the database does not exist, or the server does not support `ack=fsync` (Redis 7.2 with an append-only file)"
        }
        ErrorKind::Unavailable => "redis could not be reached, or cannot serve requests now",
        _ => "redis refused a valid call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn server(line: &str) -> RedisError {
        let reply = format!("-{line}\r\n");
        let value = redis::parse_redis_value(reply.as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn server_error_codes_map_to_error_kinds() {
        let table = [
            ("NOAUTH Authentication required.", ErrorKind::Denied),
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::Denied),
            ("NOPERM this user has no permissions to run the 'evalsha' command", ErrorKind::Denied),
            ("DENIED Redis is running in protected mode", ErrorKind::Denied),
            (
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                ErrorKind::Denied,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.",
                ErrorKind::Denied,
            ),
            (
                "ERR ACL failure in script: User app has no permissions to run the 'xadd' command script: 1",
                ErrorKind::Denied,
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 1",
                ErrorKind::Denied,
            ),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Unavailable),
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.",
                ErrorKind::Unavailable,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
                ErrorKind::Unavailable,
            ),
            ("MISCONF Redis is configured to save RDB snapshots", ErrorKind::Unavailable),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable),
            ("MASTERDOWN Client with MASTER is down", ErrorKind::Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::Unavailable),
            ("UNBLOCKED force unblock from blocking operation", ErrorKind::Unavailable),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                ErrorKind::Invalid,
            ),
            ("ERR no such command, prefix {ROOMS -OOMS OOM/00}:state", ErrorKind::Internal),
            ("ERR a key of the registry has a later format: {BUSY/00}:state", ErrorKind::Invalid),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Unavailable),
            ("ASK 3999 127.0.0.1:6381", ErrorKind::Unavailable),
            ("ERR DB index is out of range", ErrorKind::Invalid),
            (
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
                ErrorKind::Internal,
            ),
            ("ERR unknown command 'EVALSHA'", ErrorKind::Internal),
        ];
        for (line, kind) in table {
            assert_eq!(StoreError::from(server(line)).kind(), kind, "{line}");
        }
        let reset = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(StoreError::from(reset).kind(), ErrorKind::Unavailable);
        assert_eq!(StoreError::Deadline(Duration::ZERO).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn server_message_is_the_source_and_is_not_repeated() {
        let error = Error::from(StoreError::from(server("LOADING Redis is loading")));
        assert!(!error.to_string().contains("loading"), "{error}");
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().contains("loading"), "{source}");
    }

    #[test]
    fn io_errors_timeouts_and_demotions_break_the_connection() {
        let reset = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(StoreError::from(reset).breaks_connection());
        assert!(StoreError::Deadline(Duration::ZERO).breaks_connection());
        assert!(StoreError::from(server("READONLY You can't write")).breaks_connection());
        assert!(StoreError::from(server("READONLY You can't write")).is_demotion());
        assert!(!StoreError::Deadline(Duration::ZERO).is_demotion());
        assert!(!StoreError::from(server("LOADING Redis is loading")).breaks_connection());
        assert!(!StoreError::LeaseLost.breaks_connection());
    }
}
