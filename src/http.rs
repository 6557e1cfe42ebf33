//! HTTP: a tower layer and a [`Discover`](tower::discover::Discover) stream over a service, and the classification of
//! responses for load balancing.

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

/// Classifies the result of an HTTP call, for [`Pick::observe_with`](crate::Pick::observe_with): see
/// [`classify_status`] and [`classify_error`].
///
/// ```
/// use http::Response;
/// use service_registry::balance::{Failure, Outcome};
/// use service_registry::http::classify;
///
/// let answer = |status| Ok::<_, std::io::Error>(Response::builder().status(status).body(()).unwrap());
/// assert_eq!(classify(&answer(404)), Outcome::Success); // the instance works: the request was wrong
/// assert_eq!(classify(&answer(503)), Outcome::Failure(Failure::Other));
/// ```
pub fn classify<B, E: StdError + 'static>(result: &Result<Response<B>, E>) -> Outcome {
    match result {
        Ok(response) => classify_status(response.status().as_u16()),
        Err(error) => Outcome::Failure(classify_error(error)),
    }
}

/// Classifies the status code of an HTTP response, for clients that do not use the types of the crate `http`.
///
/// 502, 503 and 504 are failures. Other 5xx codes and 429 are neutral: they may be due to one request, and a fast error
/// must not count as a low latency. Everything else is a success.
pub fn classify_status(status: u16) -> Outcome {
    match status {
        502..=504 => Outcome::Failure(Failure::Other),
        429 | 500..=599 => Outcome::Neutral,
        _ => Outcome::Success,
    }
}

/// Returns the reason of a failed call, taken from the error or the first of its sources that is an `io::Error`.
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
