//! A call in flight, and what its endpoint is known by afterwards.

use crate::connection::Connection;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::status::{self, FailureCause};
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body::Body as _;
use registry_balance::{Ejected, Outcome, Ticket};
use registry_core::BoxError;
use std::fmt;
use std::sync::Arc;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The header, or trailer, in which a server states the outcome of a call.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A call in flight. A call that is dropped before it was answered was abandoned.
pub(crate) struct Call {
    connection: Arc<Connection>,
    /// Until the outcome is known.
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

    /// The head of the response has arrived. Returns the call if its outcome is still to come, with
    /// the body.
    pub(crate) fn answered(mut self, response: &Response<Body>) -> Option<Self> {
        if response.status() != StatusCode::OK && !response.headers().contains_key(&GRPC_STATUS) {
            // A proxy answers, or a server that does not speak gRPC.
            self.finish(Outcome::Failure);
            return None;
        }
        let now = self.connection.context.now();
        let ticket = self.ticket.as_mut()?;
        ticket.answered(now);
        // Without a body, the headers state the outcome.
        if response.body().is_end_stream()
            && let Some(outcome) = outcome_of(response.headers())
        {
            self.finish(outcome);
            return None;
        }
        // The endpoint serves, whatever is to come: a stream may go on for hours.
        ticket.readmit(now);
        Some(self)
    }

    /// The response has ended, with these trailers.
    pub(crate) fn ended(mut self, trailers: Option<&HeaderMap>) {
        // Every call ends with a status: one without was cut off.
        self.finish(trailers.and_then(outcome_of).unwrap_or(Outcome::Failure));
    }

    /// The transport has failed the call. Returns the status that the call fails with.
    pub(crate) fn failed(mut self, cause: FailureCause, error: BoxError) -> Status {
        self.finish(cause.outcome());
        cause.status(error)
    }

    /// Ends the call so that it can be made at another endpoint. It says nothing of this one,
    /// unless that its connection is lost.
    pub(crate) fn move_on(mut self, cause: FailureCause) {
        self.ticket = None;
        if cause == FailureCause::NeverSent {
            self.connection.set_lost();
        }
        let Connection { address, context, .. } = &*self.connection;
        tracing::debug!(%address, service = context.name, ?cause, "retrying an unsent call on another endpoint");
        context.meters.replayed();
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.report(ticket.finish(outcome, self.connection.context.now()));
        }
    }

    fn report(&self, ejected: Option<Ejected>) {
        let Some(Ejected { failures, duration, .. }) = ejected else { return };
        let Connection { address, context, .. } = &*self.connection;
        tracing::warn!(%address, service = context.name, failures, ?duration, "endpoint ejected after consecutive failures");
        context.meters.ejected();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.report(ticket.abandon(self.connection.context.now()));
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("address", &self.connection.address).finish_non_exhaustive()
    }
}

/// Returns the outcome that headers or trailers state.
fn outcome_of(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(&GRPC_STATUS)?;
    Some(status::outcome(Code::from_bytes(status.as_bytes())))
}
