//! What can go wrong with a call to etcd, and what that means to the caller of a registry.

use registry_core::{Error, ErrorKind};
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call to etcd failed. The source of this crate's errors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// etcd, or the way to it, gave an error.
    #[error(transparent)]
    Client(#[from] etcd_client::Error),
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

impl EtcdError {
    /// Whether no member saw the request, since no connection could be made.
    pub(crate) fn is_unsent(&self) -> bool {
        // etcd-client's own error names no source, so this begins with what is in it.
        let mut source: Option<&(dyn std::error::Error + 'static)> = match self {
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
        let text = match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => status.message(),
            Self::Canceled(text) => text,
            _ => return false,
        };
        text.contains("invalid auth token") || text.contains("revision of auth store is old")
    }

    /// Whether the answer was larger than it may be. The text is that of tonic's `codec/decode.rs`.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Client(etcd_client::Error::GRpcStatus(status))
            if status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE))
    }

    /// How many bytes the answer had that was too large.
    pub(crate) fn answer_len(&self) -> Option<usize> {
        let Self::Client(etcd_client::Error::GRpcStatus(status)) = self else { return None };
        let (_, found) = status.message().split_once("found ")?;
        found.split(' ').next()?.parse().ok()
    }

    /// Whether the user is known, and may not do this.
    pub(crate) fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Client(etcd_client::Error::GRpcStatus(status))
            if status.code() == Code::PermissionDenied)
    }

    /// Whether another member may do better. One that is asked too much, or is out of space, is not
    /// alone in that.
    pub(crate) fn is_member_failure(&self) -> bool {
        let is_exhausted = matches!(self, Self::Client(etcd_client::Error::GRpcStatus(status))
            if status.code() == Code::ResourceExhausted
                || status.message().contains("too many requests"));
        self.reason() == Reason::Unavailable && !is_exhausted
    }
}

impl From<EtcdError> for Error {
    fn from(error: EtcdError) -> Self {
        if let EtcdError::Silent(limit) = error {
            return Self::silent(limit);
        }
        let reason = error.reason();
        Self::new(reason.kind(), reason.message()).with_source(error)
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
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn every_status_maps_to_a_reason() {
        let table = [
            (Code::NotFound, "etcdserver: requested lease not found", Reason::LeaseNotFound),
            (Code::NotFound, "etcdserver: member not found", Reason::Internal),
            (Code::FailedPrecondition, "etcdserver: lease already exists", Reason::LeaseExists),
            (Code::FailedPrecondition, "etcdserver: not leader", Reason::Unavailable),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                Reason::Invalid,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Reason::Compacted,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                Reason::Diverged,
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
                Reason::Internal,
            ),
            (Code::OutOfRange, "etcdserver: too large lease TTL", Reason::Invalid),
            (Code::InvalidArgument, "etcdserver: request is too large", Reason::Invalid),
            (Code::InvalidArgument, "etcdserver: user name is empty", Reason::Denied),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", Reason::Denied),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Reason::Denied),
            (Code::PermissionDenied, "etcdserver: permission denied", Reason::Denied),
            (Code::Unimplemented, "unknown service etcdserverpb.KV", Reason::Invalid),
            (Code::Unavailable, "etcdserver: no leader", Reason::Unavailable),
            (Code::Unavailable, "invalid peer certificate: UnknownIssuer", Reason::Denied),
            (Code::DeadlineExceeded, "context deadline exceeded", Reason::Unavailable),
            (Code::Cancelled, "Timeout expired", Reason::Unavailable),
            (Code::Unknown, "h2 protocol error: broken pipe", Reason::Unavailable),
            (Code::Internal, "h2 protocol error: http2 error", Reason::Unavailable),
            (Code::Internal, "etcdserver: panic", Reason::Internal),
            (Code::ResourceExhausted, "etcdserver: too many requests", Reason::Unavailable),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Reason::Unavailable,
            ),
            (Code::DataLoss, "etcdserver: corrupt cluster", Reason::Internal),
        ];
        for (code, text, reason) in table {
            assert_eq!(reason_of_status(&Status::new(code, text)), reason, "{code:?} {text}");
        }
    }

    #[test]
    fn only_member_failures_switch_the_member() {
        let of = |code, text: &str| {
            EtcdError::from(etcd_client::Error::GRpcStatus(Status::new(code, text)))
        };
        assert!(of(Code::Unavailable, "etcdserver: no leader").is_member_failure());
        assert!(of(Code::Unknown, "h2 protocol error: broken pipe").is_member_failure());
        assert!(EtcdError::StreamEnded.is_member_failure());
        for text in ["etcdserver: too many requests", "etcdserver: mvcc: database space exceeded"] {
            assert!(!of(Code::ResourceExhausted, text).is_member_failure(), "{text}");
        }
        assert!(!of(Code::Unknown, "etcdserver: too many requests").is_member_failure());
        assert!(!of(Code::OutOfRange, "has been compacted").is_member_failure());
    }

    #[test]
    fn request_is_unsent_if_the_connection_failed() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        assert!(EtcdError::from(etcd_client::Error::GRpcStatus(status)).is_unsent());
        let cut = Status::new(Code::Unavailable, "tcp connect error");
        assert!(!EtcdError::from(etcd_client::Error::GRpcStatus(cut)).is_unsent());
    }

    #[test]
    fn invalid_token_differs_from_wrong_password() {
        let of = |code, text: &str| {
            EtcdError::from(etcd_client::Error::GRpcStatus(Status::new(code, text)))
        };
        assert!(of(Code::Unauthenticated, "etcdserver: invalid auth token").is_token_rejected());
        let old = "etcdserver: revision of auth store is old";
        assert!(of(Code::InvalidArgument, old).is_token_rejected());
        assert!(EtcdError::Canceled("etcdserver: invalid auth token".into()).is_token_rejected());
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(!of(Code::InvalidArgument, wrong).is_token_rejected());
        assert!(!EtcdError::Canceled("etcdserver: permission denied".into()).is_token_rejected());
    }

    #[test]
    fn broken_keep_alive_stream_is_no_lost_lease() {
        let of = |text: &str| {
            EtcdError::from(etcd_client::Error::LeaseKeepAliveError(text.to_owned())).reason()
        };
        assert_eq!(of("lease not found"), Reason::LeaseNotFound);
        assert_eq!(of("channel closed"), Reason::Unavailable);
    }

    #[test]
    fn watch_refused_for_credentials_is_denied() {
        let of = |text: &str| EtcdError::Canceled(text.to_owned()).reason();
        let refused = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(of(refused), Reason::Denied);
        assert_eq!(of("etcdserver: invalid auth token"), Reason::Denied);
        assert_eq!(of(""), Reason::Unavailable);
    }

    #[test]
    fn registry_error_has_the_etcd_error_as_source() {
        let error = Error::from(EtcdError::Deadline(Duration::from_secs(5)));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "etcd did not answer, or not in time");
        assert_eq!(error.source().unwrap().to_string(), "no answer within 5s");
    }
}
