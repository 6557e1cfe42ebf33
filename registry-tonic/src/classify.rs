//! The classification of calls: which outcomes count against an endpoint.

use registry_balance::Outcome;
use std::fmt;
use std::sync::Arc;
use tonic::Code;

/// A function that decides which outcomes of calls count against an endpoint.
///
/// Several [failures](Outcome::Failure) in a row eject an endpoint, and each failure makes it look
/// slower to the balancer. Default: [`CallEnd::default_outcome`]. A call that no server has processed
/// is not classified.
///
/// ```
/// use registry_tonic::{CallEnd, ChannelOptions, Classify, Outcome};
/// use tonic::Code;
///
/// // Overload and timeouts eject an endpoint, too.
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

/// The end of a call that a server may have processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallEnd {
    /// The server ended the call with this status, `Ok` included.
    Status(Code),
    /// The server ended the call without a status: the response was cut off, or is not gRPC.
    NoStatus,
    /// The connection or the stream was lost during the call.
    ConnectionLost,
    /// The deadline of the caller passed.
    DeadlineExceeded,
    /// The caller dropped the call.
    Cancelled,
}

impl Classify {
    /// Creates a classifier that calls `classify` once for each call. It must not block or panic.
    pub fn new(classify: impl Fn(CallEnd) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Arc::new(classify))
    }

    /// Returns the outcome of a call that ended with `end`.
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
    /// Returns the default outcome, which [`Classify`] can override.
    ///
    /// Failures are `Internal`, `Unavailable`, `DataLoss`, an end without a status, and a lost
    /// connection. go-zero (`zrpc/internal/codes`) counts more. Three of its failures are neutral here:
    ///
    /// * `Unimplemented`: a caller that is released before its servers would eject them.
    /// * `ResourceExhausted`: an ejection would move the load to the other endpoints.
    /// * A deadline or a cancellation of the caller, whichever side reports it, since the caller may be
    ///   impatient. Its elapsed time still counts as a lower bound of the latency.
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

    /// Counted as failures, these let a client that was released before its servers eject half of them.
    #[test]
    fn unimplemented_overload_deadline_and_cancellation_are_neutral() {
        let codes =
            [Code::Unimplemented, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
        let by_caller = [CallEnd::DeadlineExceeded, CallEnd::Cancelled];
        for end in codes.map(CallEnd::Status).into_iter().chain(by_caller) {
            assert_eq!(end.default_outcome(), Outcome::Neutral, "{end:?}");
        }
    }

    #[test]
    fn broken_server_is_a_failure_and_a_rejected_request_is_a_success() {
        let failures = [Code::Internal, Code::Unavailable, Code::DataLoss].map(CallEnd::Status);
        for end in failures.into_iter().chain([CallEnd::NoStatus, CallEnd::ConnectionLost]) {
            assert_eq!(end.default_outcome(), Outcome::Failure, "{end:?}");
        }
        for code in [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::Unknown] {
            assert_eq!(CallEnd::Status(code).default_outcome(), Outcome::Success, "{code:?}");
        }
    }
}
