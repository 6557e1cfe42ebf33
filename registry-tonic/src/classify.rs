//! Which outcomes of calls count against an endpoint.

use registry_balance::Outcome;
use std::fmt;
use std::sync::Arc;
use tonic::Code;

/// Which outcomes of calls count against an endpoint.
///
/// Several [failures](Outcome::Failure) in a row eject an endpoint, and each makes it look slower.
/// Unless set it is [`CallEnd::default_outcome`]. A call that no server has processed is not
/// classified: it says nothing of an endpoint.
///
/// ```
/// use registry_tonic::{CallEnd, ChannelOptions, Classify, Outcome};
/// use tonic::Code;
///
/// // An overloaded server is left alone for a while, and one that times out is ejected.
/// let classify = Classify::new(|end| match end {
///     CallEnd::Status(Code::ResourceExhausted) => Outcome::Failure,
///     CallEnd::DeadlineExceeded => Outcome::TimedOut,
///     other => other.default_outcome(),
/// });
/// let options = ChannelOptions::default().with_classify(classify);
/// assert_eq!(options.classify.outcome(CallEnd::DeadlineExceeded), Outcome::TimedOut);
/// ```
#[derive(Clone)]
pub struct Classify(Arc<dyn Fn(CallEnd) -> Outcome + Send + Sync>);

/// How a call ended that a server may have processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnd {
    /// The server ended the call with this status, `Ok` included.
    Status(Code),
    /// The server ended the call without a status: the answer was cut off, or is no gRPC.
    NoStatus,
    /// The connection or the stream was lost during the call.
    ConnectionLost,
    /// The deadline of the caller passed.
    DeadlineExceeded,
    /// The caller dropped the call.
    Cancelled,
}

impl Classify {
    /// Classifies calls by this function. It is called once for each call, and must not block or
    /// panic.
    pub fn new(classify: impl Fn(CallEnd) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Arc::new(classify))
    }

    /// Returns what a call that ended so says of its endpoint.
    ///
    /// ```
    /// use registry_tonic::{CallEnd, Classify, Outcome};
    ///
    /// assert_eq!(Classify::default().outcome(CallEnd::NoStatus), Outcome::Failure);
    /// ```
    pub fn outcome(&self, end: CallEnd) -> Outcome {
        (self.0)(end)
    }
}

impl CallEnd {
    /// Returns the outcome unless [`Classify`] says otherwise.
    ///
    /// Failures are `Internal`, `Unavailable` and `DataLoss`, an end without status, and a lost
    /// connection. They are fewer than those of go-zero (`zrpc/internal/codes`):
    ///
    /// * `Unimplemented` is neutral: a caller that is released before its servers would eject them.
    /// * So is `ResourceExhausted`: an ejection moves the load to the other endpoints.
    /// * So are the deadline and the cancellation of the caller, whichever side notices them, since
    ///   the caller may be impatient. They do count as a lower bound of the latency.
    ///
    /// ```
    /// use registry_tonic::{CallEnd, Outcome};
    /// use tonic::Code;
    ///
    /// assert_eq!(CallEnd::Status(Code::NotFound).default_outcome(), Outcome::Success);
    /// assert_eq!(CallEnd::Status(Code::Unavailable).default_outcome(), Outcome::Failure);
    /// ```
    pub fn default_outcome(self) -> Outcome {
        match self {
            Self::Status(Code::Internal | Code::Unavailable | Code::DataLoss)
            | Self::NoStatus
            | Self::ConnectionLost => Outcome::Failure,
            Self::Status(
                Code::Unimplemented
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Cancelled,
            )
            | Self::DeadlineExceeded
            | Self::Cancelled => Outcome::Neutral,
            Self::Status(_) => Outcome::Success,
        }
    }
}

impl Default for Classify {
    fn default() -> Self {
        Self::new(CallEnd::default_outcome)
    }
}

impl fmt::Debug for Classify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classify").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By these a client that was released before its servers ejected half of them.
    #[test]
    fn missing_method_overload_and_the_callers_own_limits_are_no_failures() {
        let codes =
            [Code::Unimplemented, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
        let by_caller = [CallEnd::DeadlineExceeded, CallEnd::Cancelled];
        for end in codes.map(CallEnd::Status).into_iter().chain(by_caller) {
            assert_eq!(end.default_outcome(), Outcome::Neutral, "{end:?}");
        }
    }

    #[test]
    fn server_that_cannot_serve_has_failed_and_one_that_refuses_a_request_has_not() {
        let failures = [Code::Internal, Code::Unavailable, Code::DataLoss].map(CallEnd::Status);
        for end in failures.into_iter().chain([CallEnd::NoStatus, CallEnd::ConnectionLost]) {
            assert_eq!(end.default_outcome(), Outcome::Failure, "{end:?}");
        }
        for code in [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::Unknown] {
            assert_eq!(CallEnd::Status(code).default_outcome(), Outcome::Success, "{code:?}");
        }
    }
}
