//! A call in flight, which reports its outcome to the balancer.

use crate::classify::CallEnd;
use crate::connection::Connection;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::status::FailureCause;
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use registry_balance::{Outcome, Ticket, Transition};
use registry_core::BoxError;
use std::fmt;
use std::sync::Arc;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status, TimeoutExpired};

/// The header or trailer with the status of a call.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A call in flight. Dropping it counts as a cancellation by the caller.
pub(crate) struct Call {
    connection: Arc<Connection>,
    /// `None` once the outcome is known.
    ticket: Option<Ticket<EndpointKey, Arc<Endpoint>>>,
}

impl Call {
    pub(crate) fn new(
        ticket: Ticket<EndpointKey, Arc<Endpoint>>,
        connection: Arc<Connection>,
    ) -> Self {
        Self { connection, ticket: Some(ticket) }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// Handles the headers of the response. Returns the call if its outcome follows with the body.
    pub(crate) fn answered(mut self, response: &Response<Body>) -> Option<Self> {
        // A response without a body has its status in the headers.
        if let Some(code) = status_in(response.headers()) {
            self.finish(CallEnd::Status(code));
            return None;
        }
        if response.status() != StatusCode::OK {
            // The response is from a proxy, or from a server that does not speak gRPC.
            self.finish(CallEnd::NoStatus);
            return None;
        }
        let now = self.connection.context.now();
        self.ticket.as_mut()?.answered(now);
        Some(self)
    }

    /// Handles the end of the response.
    ///
    /// # Errors
    ///
    /// `Internal` if the trailers have no status: the response was cut off.
    pub(crate) fn ended(mut self, trailers: Option<&HeaderMap>) -> Result<(), Status> {
        if let Some(code) = trailers.and_then(status_in) {
            self.finish(CallEnd::Status(code));
            return Ok(());
        }
        self.finish(CallEnd::NoStatus);
        let address = &self.connection.address;
        let message = format!("the server ended the call without a status, address=`{address}`");
        Err(Status::internal(message))
    }

    /// Handles an error of the transport. Returns the status that the call fails with.
    pub(crate) fn failed(mut self, cause: FailureCause, error: BoxError) -> Status {
        match cause.call_end() {
            Some(end) => self.finish(end),
            None => self.finish_as(Outcome::Neutral),
        }
        cause.status(error)
    }

    /// Handles a deadline that passed during the response. Returns the status that the call fails with.
    pub(crate) fn timed_out(self) -> Status {
        self.failed(FailureCause::TimedOut, TimeoutExpired(()).into())
    }

    /// Ends the call at this endpoint so that it can be retried on another, and returns the key of this
    /// endpoint. The attempt does not count against the endpoint, but may mark its connection as lost.
    pub(crate) fn move_on(mut self, cause: FailureCause) -> Option<EndpointKey> {
        let ticket = self.ticket.take()?;
        let Connection { address, context, .. } = &*self.connection;
        tracing::debug!(%address, service = context.name, ?cause, "retrying an unsent call on another endpoint");
        context.meters.replayed();
        let key = ticket.key().clone();
        if cause == FailureCause::NeverSent {
            self.connection.set_lost();
        } else {
            // A refused half-open probe counts as done; the next probe would be refused, too.
            ticket.finish(Outcome::Neutral, context.now());
        }
        Some(key)
    }

    fn finish(&mut self, end: CallEnd) {
        let outcome = self.connection.context.options.classify.outcome(end);
        self.finish_as(outcome);
    }

    fn finish_as(&mut self, outcome: Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = self.connection.context.now();
        if outcome == Outcome::Neutral {
            // The elapsed time counts as a lower bound of the latency.
            ticket.abandon(now);
        } else if let Some(transition) = ticket.finish(outcome, now) {
            self.report(transition);
        }
    }

    fn report(&self, transition: Transition) {
        let Connection { address, context, .. } = &*self.connection;
        let service = &context.name;
        if let Transition::Ejected { failures, duration, .. } = transition {
            tracing::warn!(%address, service, failures, ?duration, "endpoint ejected after consecutive failures");
            context.meters.ejected();
        } else {
            tracing::info!(%address, service, "endpoint takes calls again");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.finish(CallEnd::Cancelled);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("address", &self.connection.address).finish_non_exhaustive()
    }
}

/// Returns the status in headers or trailers.
fn status_in(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get(&GRPC_STATUS)?;
    Some(Code::from_bytes(status.as_bytes()))
}
