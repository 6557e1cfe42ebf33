//! What went wrong with a call, in gRPC's terms.

use crate::link::Gone;
use crate::load::Outcome;
use std::error::Error as StdError;
use tonic::{Code, ConnectError, Status};

/// The status of a call that the transport failed. A connection that was lost is `Unavailable`, as gRPC
/// has it for its clients (its `doc/statuscodes.md`); tonic alone says `Unknown`.
pub(crate) fn of(error: Box<dyn StdError + Send + Sync>) -> Status {
    let status = Status::from_error(error);
    if status.code() != Code::Unknown {
        return status;
    }
    let message = format!("the connection failed: {}", deepest(&status));
    let mut unavailable = Status::unavailable(message);
    unavailable.set_source(std::sync::Arc::new(status));
    unavailable
}

/// Whether the call that failed so was never sent: another endpoint may have it, whatever it does.
pub(crate) fn was_never_sent(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| {
        error.is::<Gone>()
            || error.is::<ConnectError>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    })
}

/// What a status says of the endpoint it came from. The codes are those that go-zero counts against one
/// (`zrpc/internal/codes`).
pub(crate) fn outcome(code: Code) -> Outcome {
    match code {
        Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unimplemented
        | Code::ResourceExhausted => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// The cause that no other caused: what a connection failed by.
fn deepest(status: &Status) -> String {
    let causes = std::iter::successors(status.source(), |error| (*error).source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
