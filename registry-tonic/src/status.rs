//! What went wrong with a call, in gRPC's terms, and what that says of the endpoint.

use crate::link::Gone;
use registry_balance::Outcome;
use registry_core::BoxError;
use std::error::Error as StdError;
use std::sync::Arc;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// Why the transport failed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was never sent, since its connection is gone.
    NeverSent,
    /// The server refused it before it looked at it: it said goodbye, or has too many.
    Refused,
    /// The time that the call had is over.
    TimedOut,
    /// Its caller asked for what cannot be sent.
    Caller,
    /// It may have been sent, and the connection was lost.
    Lost,
}

impl Cause {
    /// Looks at an error, and at all that caused it.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
        std::iter::successors(Some(error), |error| (*error).source())
            .find_map(Self::of_one)
            .unwrap_or(Self::Lost)
    }

    fn of_one(error: &(dyn StdError + 'static)) -> Option<Self> {
        if error.is::<Gone>() || error.is::<ConnectError>() {
            return Some(Self::NeverSent);
        }
        if error.is::<TimeoutExpired>() {
            return Some(Self::TimedOut);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_goodbye = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            // A server that says so has not looked at it: RFC 9113, 6.8 and 8.7.
            return (error.is_remote() && (is_goodbye || is_refused)).then_some(Self::Refused);
        }
        let error = error.downcast_ref::<hyper::Error>()?;
        if error.is_canceled() {
            return Some(Self::NeverSent); // it was still in the queue
        }
        error.is_user().then_some(Self::Caller)
    }

    /// The status that the call fails with. A lost connection is `Unavailable`, as gRPC has it for
    /// its clients (its `doc/statuscodes.md`), where tonic has several codes.
    pub(crate) fn status(self, error: BoxError) -> Status {
        let (code, what) = match self {
            Self::NeverSent | Self::Refused => (Code::Unavailable, "the endpoint is gone"),
            Self::TimedOut => (Code::DeadlineExceeded, "the call took too long"),
            Self::Caller => (Code::Internal, "the call cannot be sent"),
            Self::Lost => (Code::Unavailable, "the connection was lost"),
        };
        let mut status = Status::new(code, format!("{what}: {}", deepest(&*error)));
        status.set_source(Arc::from(error));
        status
    }

    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::TimedOut => Outcome::TimedOut,
            Self::Lost => Outcome::Failure,
            Self::NeverSent | Self::Refused | Self::Caller => Outcome::Neutral,
        }
    }
}

/// Why an endpoint could not be connected to.
pub(crate) fn unreachable(error: BoxError) -> Status {
    let mut status = Status::unavailable(deepest(&*error));
    status.set_source(Arc::from(error));
    status
}

/// What a status says of the endpoint it came from. The codes are those that go-zero counts against
/// one (`zrpc/internal/codes`).
pub(crate) fn outcome(code: Code) -> Outcome {
    match code {
        Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unimplemented
        | Code::ResourceExhausted => Outcome::Failure,
        Code::Cancelled => Outcome::Neutral,
        _ => Outcome::Success,
    }
}

/// The cause that no other caused: what a connection failed by.
fn deepest(error: &(dyn StdError + 'static)) -> String {
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
    fn a_cause_is_found_however_deep_it_lies() {
        let within = |error: BoxError| Cause::of(&Outer(Box::new(Outer(error))));
        assert_eq!(within(Gone.into()), Cause::NeverSent);
        assert_eq!(within(TimeoutExpired(()).into()), Cause::TimedOut);
        assert_eq!(within("broken pipe".into()), Cause::Lost);
        // One that this side made up says nothing of what the server did.
        assert_eq!(within(h2::Error::from(h2::Reason::REFUSED_STREAM).into()), Cause::Lost);
    }

    #[test]
    fn a_status_says_what_is_at_the_bottom_of_it() {
        let error = Outer(Box::new(Outer("broken pipe".into())));
        let status = Cause::Lost.status(error.into());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "the connection was lost: broken pipe");
        assert_eq!(
            Cause::TimedOut.status(TimeoutExpired(()).into()).code(),
            Code::DeadlineExceeded
        );
        assert_eq!(Cause::Caller.outcome(), Outcome::Neutral, "nobody else is to blame");
    }

    #[test]
    fn codes_are_judged_as_go_zero_judges_them() {
        assert_eq!(outcome(Code::Unavailable), Outcome::Failure);
        assert_eq!(outcome(Code::NotFound), Outcome::Success);
        assert_eq!(outcome(Code::Cancelled), Outcome::Neutral);
    }
}
