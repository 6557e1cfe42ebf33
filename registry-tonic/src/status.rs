//! The cause of a failed call, and its gRPC status.

use crate::classify::CallEnd;
use crate::connector::ConnectionLost;
use registry_core::BoxError;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// Why the transport failed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureCause {
    /// The connection was lost before the call was sent.
    NeverSent,
    /// The server refused the call before it processed it: it sent GOAWAY, or has too many streams.
    Refused,
    /// The deadline of the call has passed.
    TimedOut,
    /// The request is invalid and cannot be sent.
    InvalidRequest,
    /// The connection was lost, and the call may have been sent.
    Lost,
}

impl FailureCause {
    /// Returns the cause of the outermost error in the chain that has one, or else `Lost`.
    pub(crate) fn from_error(error: &(dyn StdError + 'static)) -> Self {
        std::iter::successors(Some(error), |error| (*error).source())
            .find_map(Self::stated_by)
            .unwrap_or(Self::Lost)
    }

    fn stated_by(error: &(dyn StdError + 'static)) -> Option<Self> {
        if error.is::<ConnectionLost>() || error.is::<ConnectError>() {
            return Some(Self::NeverSent);
        }
        if error.is::<TimeoutExpired>() {
            return Some(Self::TimedOut);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_goaway = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            // The server has not processed the call: RFC 9113, 6.8 and 8.7.
            return (error.is_remote() && (is_goaway || is_refused)).then_some(Self::Refused);
        }
        let error = error.downcast_ref::<hyper::Error>()?;
        if error.is_canceled() {
            return Some(Self::NeverSent); // it was still in the queue
        }
        error.is_user().then_some(Self::InvalidRequest)
    }

    /// Returns the status that the call fails with. A lost connection is `Unavailable`, as gRPC's
    /// `doc/statuscodes.md` requires; tonic uses several codes for it.
    pub(crate) fn status(self, error: BoxError) -> Status {
        let (code, what) = match self {
            Self::NeverSent | Self::Refused => (Code::Unavailable, "no endpoint took the call"),
            Self::TimedOut => (Code::DeadlineExceeded, "the deadline of the call has passed"),
            Self::InvalidRequest => (Code::Internal, "the call cannot be sent"),
            Self::Lost => (Code::Unavailable, "the connection was lost"),
        };
        let mut status = Status::new(code, format!("{what}: {}", root_message(&*error)));
        status.set_source(Arc::from(error));
        status
    }

    /// Returns how the call ended, if a server may have processed it.
    pub(crate) fn call_end(self) -> Option<CallEnd> {
        match self {
            Self::TimedOut => Some(CallEnd::DeadlineExceeded),
            Self::Lost => Some(CallEnd::ConnectionLost),
            Self::NeverSent | Self::Refused | Self::InvalidRequest => None,
        }
    }
}

/// Returns the status of a failed attempt to connect.
pub(crate) fn connect_error(error: BoxError) -> Status {
    let mut status = Status::unavailable(root_message(&*error));
    status.set_source(Arc::from(error));
    status
}

/// Returns whether a [`connect_error`] was caused by a refused connection: nothing listens at the address.
pub(crate) fn is_refused(error: &Status) -> bool {
    std::iter::successors(error.source(), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Returns the message of the innermost source, which names the actual cause.
fn root_message(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    #[test]
    fn cause_is_found_at_any_depth_of_the_error_chain() {
        let within = |error: BoxError| FailureCause::from_error(&Outer(Box::new(Outer(error))));
        assert_eq!(within(ConnectionLost.into()), FailureCause::NeverSent);
        assert_eq!(within(TimeoutExpired(()).into()), FailureCause::TimedOut);
        assert_eq!(within("broken pipe".into()), FailureCause::Lost);
        // A local error does not tell what the server did.
        assert_eq!(within(h2::Error::from(h2::Reason::REFUSED_STREAM).into()), FailureCause::Lost);
    }

    #[test]
    fn status_states_the_innermost_source() {
        let error = Outer(Box::new(Outer("broken pipe".into())));
        let status = FailureCause::Lost.status(error.into());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "the connection was lost: broken pipe");
        assert_eq!(
            FailureCause::TimedOut.status(TimeoutExpired(()).into()).code(),
            Code::DeadlineExceeded
        );
        assert_eq!(
            FailureCause::InvalidRequest.call_end(),
            None,
            "must not count against the endpoint"
        );
    }
}
