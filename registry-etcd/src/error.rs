//! What can go wrong with a call to etcd, and what that means to the caller of a registry.

use crate::transport::Problem;
use registry_core::{Error, ErrorKind};
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call to etcd failed. The source of this crate's errors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// etcd, or the way to it, gave an error.
    #[error("{}", describe(.0))]
    Client(etcd_client::Error),
    /// The same of a known member.
    #[error("{}", .problem.as_ref().map_or_else(|| .error.to_string(), Problem::to_string))]
    At {
        /// `host:port`
        endpoint: String,
        /// What is wrong with the server, if its connection told.
        problem: Option<Problem>,
        error: Box<Self>,
    },
    /// Nothing was heard in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// A watch gave no sign of life though its connection stands.
    #[error("etcd is silent on a watch, no sign of life within {0:?}")]
    Silent(Duration),
    /// The stream of a watch ended without an error.
    #[error("the stream ended")]
    StreamEnded,
    /// A watch was canceled, since the history it was to read is compacted.
    #[error("the history is compacted up to revision {0}")]
    Compacted(i64),
    /// A watch was canceled for another reason.
    #[error("the watch was canceled, reason=`{0}`")]
    Canceled(String),
    /// A watch heard of a change that does not follow on the one before.
    #[error("{0}")]
    MissingEvents(String),
    /// A read of a revision before one that was heard of before it was made.
    #[error("the member answered from the past, revision=`{0}`, known=`{1}`")]
    StaleRead(u64, u64),
    /// The lease that was to be renewed is not there.
    #[error("lease not found")]
    LeaseNotFound,
    /// The data are not those that a cursor was made from.
    #[error("{0}")]
    Diverged(String),
    /// The cluster is not the one that a cursor was made from.
    #[error("{0}")]
    OtherCluster(String),
    /// There is more than this reads.
    #[error("{0} are larger than is read, max=`{1}`")]
    TooLarge(&'static str, usize),
    /// An answer is not what etcd promises.
    #[error("an answer lacks {0}")]
    Malformed(&'static str),
}

/// What tonic says of an answer that is larger than it may be.
const TOO_LARGE: &str = "message length too large";

impl EtcdError {
    /// What it means.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Client(error) => reason_of_client(error),
            Self::At { problem: Some(problem), .. } if problem.is_denial() => Reason::Denied,
            Self::At { error, .. } => error.reason(),
            Self::Canceled(text) => reason_of_cancellation(text),
            Self::Deadline(_) | Self::Silent(_) | Self::StreamEnded | Self::StaleRead(..) => {
                Reason::Unavailable
            }
            // Either way there is history that it does not give.
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
    /// Adds the member that it is of, and what is wrong with it.
    pub(crate) fn at(self, endpoint: &str, problem: Option<Problem>) -> Self {
        match self {
            Self::At { .. } => self,
            error => Self::At { endpoint: endpoint.to_owned(), problem, error: Box::new(error) },
        }
    }

    /// The member that it is of, if one was asked.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match self {
            Self::At { endpoint, .. } => Some(endpoint),
            _ => None,
        }
    }

    /// The same without the member that it is of.
    fn bare(&self) -> &Self {
        match self {
            Self::At { error, .. } => error,
            error => error,
        }
    }

    /// The status that a server, or the client below, gave.
    fn status(&self) -> Option<&Status> {
        match self.bare() {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => Some(status),
            _ => None,
        }
    }

    /// Whether no member saw the request, since no connection could be made.
    pub(crate) fn is_unsent(&self) -> bool {
        // etcd-client's own error names no source, so this begins with what is in it.
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

    /// Whether it was refused for a token that has run out, or is from before a change of users. The
    /// texts are those of etcd's `api/v3rpc/rpctypes/error.go`.
    pub(crate) fn is_token_rejected(&self) -> bool {
        let text = match self.bare() {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => status.message(),
            Self::Canceled(text) => text,
            _ => return false,
        };
        text.contains("invalid auth token") || text.contains("revision of auth store is old")
    }

    /// Whether the answer was larger than it may be. The text is that of tonic's `codec/decode.rs`.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status().is_some_and(|status| {
            status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE)
        })
    }

    /// How many bytes the answer had that was too large.
    pub(crate) fn answer_len(&self) -> Option<usize> {
        let (_, found) = self.status()?.message().split_once("found ")?;
        found.split(' ').next()?.parse().ok()
    }

    /// Whether the user is known, and may not do this.
    pub(crate) fn is_permission_denied(&self) -> bool {
        self.status().is_some_and(|status| status.code() == Code::PermissionDenied)
    }

    /// Whether another member may do better. One that is asked too much, or is out of space, is not
    /// alone in that.
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

/// What the errors of etcd mean, as far as this crate tells them apart.
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
            // It is not there when asked for and there when granted: it is just being revoked.
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
            Self::LeaseExists => "etcd is about to revoke the lease: repeat",
            Self::LeaseNotFound => "etcd does not know the lease: it expired or was revoked",
            Self::Compacted => "etcd has dropped the history after the cursor",
            Self::Diverged => "the cursor is not from the history that etcd holds",
            Self::OtherCluster => "the cursor is from another cluster: load again",
            Self::Invalid => "etcd refused the request",
            Self::Denied => "etcd refused the credentials",
            Self::Unavailable => "etcd did not answer, or not in time",
            Self::Internal => "etcd answered what it should not",
        }
    }
}

/// What `error` says, and the innermost cause of it. etcd-client would add what is meant for debugging.
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
        // The one text that etcd-client makes of a renewal's answer; the others say that the stream
        // was cut.
        E::LeaseKeepAliveError(text) if text == "lease not found" => Reason::LeaseNotFound,
        E::LeaseKeepAliveError(_) | E::WatchError(_) | E::TransportError(_) | E::IoError(_) => {
            Reason::Unavailable
        }
        E::InvalidArgs(_) | E::InvalidUri(_) => Reason::Invalid,
        _ => Reason::Internal,
    }
}

/// By the code, and by the text where a code means several things. The texts are those of etcd's
/// `api/v3rpc/rpctypes/error.go`, as in 3.4 and 3.5, and of tonic's `codec/decode.rs`.
fn reason_of_status(status: &Status) -> Reason {
    let text = status.message();
    match status.code() {
        Code::OutOfRange if text.contains("has been compacted") => Reason::Compacted,
        Code::OutOfRange if text.contains("is a future revision") => Reason::Diverged,
        // Not history: tonic says so of an answer that is larger than it may be.
        Code::OutOfRange if text.contains(TOO_LARGE) => Reason::Internal,
        Code::NotFound if text.contains("requested lease not found") => Reason::LeaseNotFound,
        Code::FailedPrecondition if text.contains("lease already exists") => Reason::LeaseExists,
        Code::FailedPrecondition if text.contains("not leader") => Reason::Unavailable,
        Code::Unauthenticated | Code::PermissionDenied => Reason::Denied,
        // rustls says so of a server that is not whom it should be. To ask again does not help.
        _ if text.contains("invalid peer certificate") => Reason::Denied,
        // Among others, "user name is empty": what a server with authentication says to who has
        // none.
        Code::InvalidArgument | Code::FailedPrecondition if mentions_credentials(text) => {
            Reason::Denied
        }
        // Unimplemented: it speaks gRPC but is no etcd.
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Reason::Invalid,
        // tonic says so of a connection that breaks in mid-answer, by the reason it breaks for.
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

/// A watch is refused inside its stream, where there are texts only.
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
