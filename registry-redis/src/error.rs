//! Everything that goes wrong, and what kind of error each of it is.

use crate::connect::Address;
use redis::{ErrorKind as RedisKind, RedisError};
use registry_core::{Error, ErrorKind};
use std::time::Duration;

/// What went wrong. A clone tells each of many watches why it ended.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("redis did not answer in time, deadline=`{0:?}`")]
    Deadline(Duration),
    #[error("{}", refusal(kind_of(.0)))]
    Redis(#[source] RedisError),
    #[error("redis states no `run_id` in `INFO server`: it is no server this library knows")]
    NoRunId,
    #[error(
        "the prefix was first used with another layout, format=`{format}`, shards=`{shards}`, ours=`{ours}`"
    )]
    Layout { format: String, shards: String, ours: String },
    #[error("the server {0}: it is named by {1}://")]
    Mode(&'static str, &'static str),
    #[error("the server is a replica, or has become one")]
    NotPrimary,
    #[error(
        "the server may evict any key, and with it the registry: set its maxmemory-policy to `noeviction` or a `volatile-*` one, policy=`{0}`"
    )]
    Evicts(String),
    #[error(
        "the write stands on the primary, and too few replicas have it: repeat it, wanted=`{wanted}`, had=`{had}`"
    )]
    Unreplicated { wanted: u32, had: u32 },
    #[error("the write stands in the primary's memory, and is not on its disk yet: repeat it")]
    Unsynced,
    #[error("a script replied what it never does, reply=`{0}`")]
    Reply(String),
    #[error("another lease holds the instance id: take over on purpose, or choose another id")]
    Superseded,
    #[error("the lease is gone, or its last acknowledged record is: register again")]
    LeaseLost,
    #[error("the lease id is in use with another ttl")]
    OtherTtl,
    #[error("the lease id is in use for another instance")]
    OtherInstance,
    #[error("the history after the cursor was trimmed: load again")]
    Compacted,
    #[error("the history of the cursor was rolled back, wiped or replaced: load again")]
    Diverged,
    #[error("the history changed while it was being read: try again")]
    Unsettled,
    #[error("too many watches are being opened at once: watch again")]
    Crowded,
    #[error("the feed ended: watch again")]
    FeedEnded,
    #[error("the shard lies on another server now: watch again")]
    Moved,
    #[error("the feed's server stands still while another one goes on: watch again")]
    Stranded,
}

impl Fault {
    /// What the caller does about it. The one place that decides.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Redis(error) => kind_of(error),
            Self::Deadline(_)
            | Self::Unsettled
            | Self::Crowded
            | Self::FeedEnded
            | Self::NotPrimary
            | Self::Unreplicated { .. }
            | Self::Unsynced
            | Self::Moved
            | Self::Stranded => ErrorKind::Unavailable,
            Self::NoRunId
            | Self::Mode(..)
            | Self::Evicts(_)
            | Self::Layout { .. }
            | Self::OtherTtl
            | Self::OtherInstance => ErrorKind::Invalid,
            Self::Reply(_) => ErrorKind::Internal,
            Self::Superseded => ErrorKind::Superseded,
            Self::LeaseLost => ErrorKind::LeaseLost,
            Self::Compacted => ErrorKind::Compacted,
            Self::Diverged => ErrorKind::Diverged,
        }
    }

    /// Whether the connection it happened on must not be used again.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Redis(error) => {
                matches!(error.kind(), RedisKind::Io | RedisKind::Parse)
                    || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
                    || self.is_demotion()
            }
            _ => false,
        }
    }

    /// Whether another server might do what this one did not.
    pub(crate) fn is_about_the_server(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// Where a node of a Cluster sent us that `from` asked. It has done nothing itself.
    pub(crate) fn redirect(&self, from: &Address) -> Option<Redirect> {
        let Self::Redis(error) = self else { return None };
        let errors = error.clone().into_server_errors()?;
        errors.iter().find_map(|(_, error)| {
            let (_slot, to) = error.details()?.split_once(' ')?;
            let to = Address::redirected(to, from)?;
            match error.code() {
                "MOVED" => Some(Redirect::Moved(to)),
                "ASK" => Some(Redirect::Asked(to)),
                _ => None,
            }
        })
    }

    /// Whether the server has become a replica. Another connection may lead to its successor.
    pub(crate) fn is_demotion(&self) -> bool {
        match self {
            Self::Redis(error) => {
                matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "UNBLOCKED"))
            }
            Self::NotPrimary => true,
            _ => false,
        }
    }
}

/// Where a call is to be made instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// From now on.
    Moved(Address),
    /// This once: the shard is on its way there.
    Asked(Address),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind(), fault.to_string());
        match fault {
            Fault::Redis(source) => error.with_source(source),
            _ => error,
        }
    }
}

/// What an error of the client means, by the code that the server gave.
///
/// A server before 7.0 wraps the error of a command that a script made: `ERR Error running script
/// (call to f_...): @user_script:1: -OOM command not allowed`. So the codes are looked for in all of
/// the text; none of them is a word of prose, and nothing that a user wrote is in it.
fn kind_of(error: &RedisError) -> ErrorKind {
    const CODES: &[(&str, ErrorKind)] = &[
        ("NOAUTH", ErrorKind::Denied),
        ("WRONGPASS", ErrorKind::Denied),
        ("NOPERM", ErrorKind::Denied),
        ("DENIED", ErrorKind::Denied),
        ("without any password configured", ErrorKind::Denied),
        ("ACL failure", ErrorKind::Denied),
        ("can't run this command", ErrorKind::Denied),
        ("can't access at least one of the keys", ErrorKind::Denied),
        ("LOADING", ErrorKind::Unavailable),
        ("BUSY", ErrorKind::Unavailable),
        ("TRYAGAIN", ErrorKind::Unavailable),
        ("OOM", ErrorKind::Unavailable),
        ("MISCONF", ErrorKind::Unavailable),
        ("READONLY", ErrorKind::Unavailable),
        ("MASTERDOWN", ErrorKind::Unavailable),
        ("NOREPLICAS", ErrorKind::Unavailable),
        ("UNBLOCKED", ErrorKind::Unavailable),
        ("CLUSTERDOWN", ErrorKind::Unavailable),
        ("max number of clients", ErrorKind::Unavailable),
        ("WRONGTYPE", ErrorKind::Invalid),
        ("a key of the registry is damaged", ErrorKind::Invalid),
        ("MOVED", ErrorKind::Unavailable),
        ("ASK ", ErrorKind::Unavailable),
        ("CROSSSLOT", ErrorKind::Invalid),
        ("DB index is out of range", ErrorKind::Invalid),
        ("WAITAOF", ErrorKind::Invalid),
        ("No such master", ErrorKind::Invalid),
    ];
    if error.kind() == RedisKind::Io {
        return ErrorKind::Unavailable;
    }
    let text = match error.clone().into_server_errors() {
        Some(errors) => errors.iter().map(|(_, error)| text_of(error)).collect(),
        None => error.to_string(),
    };
    let known = CODES.iter().find(|(code, _)| text.contains(code));
    known.map_or(ErrorKind::Internal, |(_, kind)| *kind)
}

fn text_of(error: &redis::ServerError) -> String {
    format!("{} {}\n", error.code(), error.details().unwrap_or_default())
}

/// What a refused call is told to people as. The server's own words follow as the source.
fn refusal(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => "redis refused the credentials, or what they may do is too little",
        ErrorKind::Invalid => {
            "redis cannot serve this: the prefix is used by something else, the database does not exist, or the server is too old for `ack=fsync` or keeps no append-only file"
        }
        ErrorKind::Unavailable => "redis could not be reached, or is not able to serve now",
        _ => "redis refused a call that it should not",
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
    fn what_redis_says_decides_what_the_caller_does() {
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
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::Unavailable),
            ("UNBLOCKED force unblock from blocking operation", ErrorKind::Unavailable),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                ErrorKind::Invalid,
            ),
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
            assert_eq!(Fault::from(server(line)).kind(), kind, "{line}");
        }
        let reset = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(Fault::from(reset).kind(), ErrorKind::Unavailable);
        assert_eq!(Fault::Deadline(Duration::ZERO).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_words_of_the_server_are_the_source_and_not_repeated() {
        let error = Error::from(Fault::from(server("LOADING Redis is loading")));
        assert!(!error.to_string().contains("loading"), "{error}");
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().contains("loading"), "{source}");
    }

    #[test]
    fn a_connection_is_given_up_when_it_failed_or_leads_to_a_replica() {
        let reset = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(Fault::from(reset).breaks_connection());
        assert!(Fault::Deadline(Duration::ZERO).breaks_connection());
        assert!(Fault::from(server("READONLY You can't write")).breaks_connection());
        assert!(Fault::from(server("READONLY You can't write")).is_demotion());
        assert!(!Fault::Deadline(Duration::ZERO).is_demotion());
        assert!(!Fault::from(server("LOADING Redis is loading")).breaks_connection());
        assert!(!Fault::LeaseLost.breaks_connection());
    }
}
