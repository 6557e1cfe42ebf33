//! Errors of calls to etcd, and their meaning for the caller of a registry.

use crate::transport::Problem;
use registry_core::{Error, ErrorKind};
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call to etcd failed: the source of this crate's errors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// An error from etcd or its transport.
    #[error("{}", describe(.0))]
    Client(etcd_client::Error),
    /// An error from a known member.
    #[error("{}", .problem.as_ref().map_or_else(|| .error.to_string(), Problem::to_string))]
    At {
        /// `host:port`
        endpoint: String,
        /// What is wrong with the server, if its connection revealed it.
        problem: Option<Problem>,
        error: Box<Self>,
    },
    /// No response arrived in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// A watch showed no sign of life although its connection is open.
    #[error("the watch received no sign of life from etcd within {0:?}")]
    Silent(Duration),
    /// The stream ended without an error.
    #[error("the stream ended")]
    StreamEnded,
    /// A watch was canceled because the history after its cursor is compacted.
    #[error("etcd has compacted its history up to revision {0}")]
    Compacted(i64),
    /// A watch was canceled for another reason.
    #[error("the watch was canceled, reason=`{0}`")]
    Canceled(String),
    /// A watch received an event that does not follow on the previous one.
    #[error("{0}")]
    MissingEvents(String),
    /// A read returned a revision older than one this client had already seen.
    #[error("the member returned stale data, revision=`{0}`, known=`{1}`")]
    StaleRead(u64, u64),
    /// The lease to renew does not exist.
    #[error("lease not found")]
    LeaseNotFound,
    /// The data do not match the cursor.
    #[error("{0}")]
    Diverged(String),
    /// The cluster is not the one of the cursor.
    #[error("{0}")]
    OtherCluster(String),
    /// The response exceeds a limit, in bytes.
    #[error("{0} exceed the limit of {1} bytes")]
    TooLarge(&'static str, usize),
    /// A response violates etcd's protocol.
    #[error("etcd's response lacks {0}")]
    Malformed(&'static str),
}

/// tonic's text for a response above the size limit.
const TOO_LARGE: &str = "message length too large";

impl EtcdError {
    /// Returns what the error means.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Client(error) => reason_of_client(error),
            Self::At { problem: Some(problem), .. } if problem.is_denial() => Reason::Denied,
            Self::At { error, .. } => error.reason(),
            Self::Canceled(text) => reason_of_cancellation(text),
            Self::Deadline(_) | Self::Silent(_) | Self::StreamEnded | Self::StaleRead(..) => {
                Reason::Unavailable
            }
            // Either way etcd cannot deliver part of the history.
            Self::Compacted(_) | Self::MissingEvents(_) => Reason::Compacted,
            Self::LeaseNotFound => Reason::LeaseNotFound,
            Self::Diverged(_) => Reason::Diverged,
            Self::OtherCluster(_) => Reason::OtherCluster,
            Self::TooLarge(..) | Self::Malformed(_) => Reason::Internal,
        }
    }
}

impl From<etcd_client::Error> for EtcdError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Client(error)
    }
}

impl EtcdError {
    /// Adds the member that the error is from, and what is wrong with that member.
    pub(crate) fn at(self, endpoint: &str, problem: Option<Problem>) -> Self {
        match self {
            Self::At { .. } => self,
            error => Self::At { endpoint: endpoint.to_owned(), problem, error: Box::new(error) },
        }
    }

    /// Returns the member that the error is from, if one was asked.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match self {
            Self::At { endpoint, .. } => Some(endpoint),
            _ => None,
        }
    }

    /// Returns the error without its member.
    fn bare(&self) -> &Self {
        match self {
            Self::At { error, .. } => error,
            error => error,
        }
    }

    /// Returns the gRPC status, from the server or from tonic.
    fn status(&self) -> Option<&Status> {
        match self.bare() {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => Some(status),
            _ => None,
        }
    }

    /// Returns whether the request reached no member because no connection could be made.
    pub(crate) fn is_unsent(&self) -> bool {
        // etcd-client's error does not return its source, so the search starts with the inner error.
        let mut source: Option<&(dyn std::error::Error + 'static)> = match self.bare() {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => Some(status),
            Self::Client(etcd_client::Error::TransportError(error)) => Some(error),
            _ => None,
        };
        while let Some(error) = source {
            if error.is::<tonic::ConnectError>() {
                return true;
            }
            source = error.source();
        }
        false
    }

    /// Returns whether the token was rejected because it expired or predates a change of users. The texts are
    /// those of etcd's `api/v3rpc/rpctypes/error.go`.
    pub(crate) fn is_token_rejected(&self) -> bool {
        let text = match self.bare() {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => status.message(),
            Self::Canceled(text) => text,
            _ => return false,
        };
        text.contains("invalid auth token") || text.contains("revision of auth store is old")
    }

    /// Returns whether the response was above the size limit. The text is that of tonic's `codec/decode.rs`.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status().is_some_and(|status| {
            status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE)
        })
    }

    /// Returns the size in bytes of the response that was too large.
    pub(crate) fn answer_len(&self) -> Option<usize> {
        let (_, found) = self.status()?.message().split_once("found ")?;
        found.split(' ').next()?.parse().ok()
    }

    /// Returns whether the user is known but lacks permission.
    pub(crate) fn is_permission_denied(&self) -> bool {
        self.status().is_some_and(|status| status.code() == Code::PermissionDenied)
    }

    /// Returns whether another member may succeed. An overloaded cluster, or one out of space, is so on every
    /// member.
    pub(crate) fn is_member_failure(&self) -> bool {
        let is_exhausted = self.status().is_some_and(|status| {
            status.code() == Code::ResourceExhausted
                || status.message().contains("too many requests")
        });
        self.reason() == Reason::Unavailable && !is_exhausted
    }
}

impl From<EtcdError> for Error {
    fn from(error: EtcdError) -> Self {
        if let EtcdError::Silent(limit) = error {
            return Self::silent(limit);
        }
        let reason = error.reason();
        let message = match error.endpoint() {
            Some(endpoint) => format!("{}, endpoint=`{endpoint}`", reason.message()),
            None => reason.message().to_owned(),
        };
        Self::new(reason.kind(), message).with_source(error)
    }
}

/// The meaning of an etcd error, as far as this crate distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    LeaseExists,
    LeaseNotFound,
    Compacted,
    Diverged,
    OtherCluster,
    Invalid,
    Denied,
    Unavailable,
    Internal,
}

impl Reason {
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            // The lease existed when granted again, but not when looked up: etcd is revoking it.
            Self::LeaseExists | Self::Unavailable => ErrorKind::Unavailable,
            Self::LeaseNotFound => ErrorKind::LeaseLost,
            Self::Compacted => ErrorKind::Compacted,
            Self::Diverged => ErrorKind::Diverged,
            Self::OtherCluster | Self::Invalid => ErrorKind::Invalid,
            Self::Denied => ErrorKind::Denied,
            Self::Internal => ErrorKind::Internal,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::LeaseExists => "etcd is about to revoke the lease: retry",
            Self::LeaseNotFound => "etcd does not know the lease: it expired or was revoked",
            Self::Compacted => "etcd no longer has the history after the cursor: load again",
            Self::Diverged => "the cursor does not match etcd's history: load again",
            Self::OtherCluster => "the cursor is from another cluster: load again",
            Self::Invalid => "etcd refused the request",
            Self::Denied => "etcd refused the credentials, or they lack permissions",
            Self::Unavailable => "etcd is unavailable or did not answer in time",
            Self::Internal => "etcd sent an unexpected response",
        }
    }
}

/// Returns the message of `error` and its innermost cause. etcd-client would add debugging details.
fn describe(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let mut cause = std::error::Error::source(status);
    while let Some(source) = cause.and_then(std::error::Error::source) {
        cause = Some(source);
    }
    match cause.map(ToString::to_string).filter(|cause| !message.contains(cause.as_str())) {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }
}

fn reason_of_client(error: &etcd_client::Error) -> Reason {
    use etcd_client::Error as E;
    match error {
        E::GRpcStatus(status) => reason_of_status(status),
        // etcd-client uses this text for a renewal of an unknown lease. Its other texts mean that the stream broke.
        E::LeaseKeepAliveError(text) if text == "lease not found" => Reason::LeaseNotFound,
        E::LeaseKeepAliveError(_) | E::WatchError(_) | E::TransportError(_) | E::IoError(_) => {
            Reason::Unavailable
        }
        E::InvalidArgs(_) | E::InvalidUri(_) => Reason::Invalid,
        _ => Reason::Internal,
    }
}

/// Maps a status by its code, and by its text where a code is ambiguous. The texts are those of etcd's
/// `api/v3rpc/rpctypes/error.go` (3.4 and 3.5) and of tonic's `codec/decode.rs`.
fn reason_of_status(status: &Status) -> Reason {
    let text = status.message();
    match status.code() {
        Code::OutOfRange if text.contains("has been compacted") => Reason::Compacted,
        Code::OutOfRange if text.contains("is a future revision") => Reason::Diverged,
        // tonic's error for a response above the size limit, not one about history.
        Code::OutOfRange if text.contains(TOO_LARGE) => Reason::Internal,
        Code::NotFound if text.contains("requested lease not found") => Reason::LeaseNotFound,
        Code::FailedPrecondition if text.contains("lease already exists") => Reason::LeaseExists,
        Code::FailedPrecondition if text.contains("not leader") => Reason::Unavailable,
        Code::Unauthenticated | Code::PermissionDenied => Reason::Denied,
        // rustls' error for a server whose certificate is not valid. A retry does not help.
        _ if text.contains("invalid peer certificate") => Reason::Denied,
        // Includes "user name is empty": the reply of a server with authentication to a client without credentials.
        Code::InvalidArgument | Code::FailedPrecondition if mentions_credentials(text) => {
            Reason::Denied
        }
        // Unimplemented: the server speaks gRPC but is no etcd.
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Reason::Invalid,
        // tonic's code for some connections that break within a response.
        Code::Internal if text.contains("h2 protocol error") => Reason::Unavailable,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Aborted
        | Code::ResourceExhausted => Reason::Unavailable,
        _ => Reason::Internal,
    }
}

/// etcd cancels a refused watch within its stream, where it gives only a text.
fn reason_of_cancellation(text: &str) -> Reason {
    if mentions_credentials(text) { Reason::Denied } else { Reason::Unavailable }
}

fn mentions_credentials(text: &str) -> bool {
    const TEXTS: [&str; 5] = [
        "permission denied",
        "invalid auth token",
        "revision of auth store is old",
        "user name is empty",
        "authentication failed",
    ];
    TEXTS.iter().any(|known| text.contains(known))
}

#[cfg(test)]
mod tests;
