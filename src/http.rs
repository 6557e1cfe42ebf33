//! HTTP clients that go where a service is: a tower layer, a [`Discover`](tower::discover::Discover) stream, and what an
//! answer says of an instance.

mod discover;
mod error;
mod layer;

pub use self::discover::discover;
pub use self::error::CallError;
pub use self::layer::{Balance, BalanceLayer};

use crate::balance::{Failure, Outcome};
use http::Response;
use std::error::Error as StdError;
use std::io;
use std::iter::successors;

/// Returns what the result of an HTTP call says of the instance: see [`classify_status`] and [`classify_error`]. For [`Pick::observe_with`](crate::Pick::observe_with).
///
/// ```
/// use http::Response;
/// use service_registry::balance::{Failure, Outcome};
/// use service_registry::http::classify;
///
/// let answer = |status| Ok::<_, std::io::Error>(Response::builder().status(status).body(()).unwrap());
/// assert_eq!(classify(&answer(404)), Outcome::Success); // the instance is not to blame
/// assert_eq!(classify(&answer(503)), Outcome::Failure(Failure::Other));
/// ```
pub fn classify<B, E: StdError + 'static>(result: &Result<Response<B>, E>) -> Outcome {
    match result {
        Ok(response) => classify_status(response.status().as_u16()),
        Err(error) => Outcome::Failure(classify_error(error)),
    }
}

/// Returns what the status code of an HTTP answer says of the instance: 502, 503 and 504 are failures. Other errors of the
/// server, and 429, say nothing, since many are fast, and may be due to one request. For clients whose answers have types of their own.
pub fn classify_status(status: u16) -> Outcome {
    match status {
        502..=504 => Outcome::Failure(Failure::Other),
        429 | 500..=599 => Outcome::Neutral,
        _ => Outcome::Success,
    }
}

/// Returns why a call failed, as far as the error or a source of it says so.
pub fn classify_error(error: &(dyn StdError + 'static)) -> Failure {
    let mut sources =
        successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source());
    let kind = sources.find_map(|error| Some(error.downcast_ref::<io::Error>()?.kind()));
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => Failure::Refused,
        Some(io::ErrorKind::TimedOut) => Failure::TimedOut,
        _ => Failure::Other,
    }
}
