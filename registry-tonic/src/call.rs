//! A call under way, and what its endpoint is known by afterwards.

use crate::body::ResponseBody;
use crate::channel::Board;
use crate::endpoint::Connection;
use crate::status;
use http::{HeaderMap, Response};
use registry_core::Address;
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The header, or trailer, in which a server says what came of a call.
const GRPC_STATUS: &str = "grpc-status";

/// A call under way. Dropped before anything came of it, it was given up.
pub(crate) struct Call {
    connection: Arc<Connection>,
    board: Arc<Board>,
    begun: Instant,
    /// Whether its latency is known, or is none to be known.
    is_answered: bool,
}

impl Call {
    pub(crate) fn begin(connection: Arc<Connection>, board: Arc<Board>, begun: Instant) -> Self {
        connection.load().begin();
        Self { connection, board, begun, is_answered: false }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    pub(crate) fn address(&self) -> &Address {
        self.connection.address()
    }

    /// It was answered: its latency is known. It is over when the body of the answer is.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<ResponseBody> {
        self.is_answered = true;
        self.connection.load().answered(self.begun.elapsed(), self.board.now());
        self.judge(response.headers());
        response.map(|body| ResponseBody::new(body, self))
    }

    /// It failed: returns the status to fail with.
    pub(crate) fn failed(mut self, status: Status) -> Status {
        self.is_answered = true;
        self.conclude(status.code());
        status
    }

    /// It says nothing of the endpoint.
    pub(crate) fn was_never_sent(mut self) {
        self.is_answered = true;
    }

    /// Takes in what headers or trailers say came of it, if they do: headers only where nothing follows.
    pub(crate) fn judge(&self, headers: &HeaderMap) {
        if let Some(status) = headers.get(GRPC_STATUS) {
            self.conclude(Code::from_bytes(status.as_bytes()));
        }
    }

    /// Takes in what came of it.
    pub(crate) fn conclude(&self, code: Code) {
        let now = self.board.now();
        let (load, outcome) = (self.connection.load(), status::outcome(code));
        let Some(ejection) = &self.board.options.ejection else {
            load.judge(outcome, u32::MAX, now);
            return;
        };
        if !load.judge(outcome, ejection.failures, now) || !self.board.may_eject(now) {
            return;
        }
        if let Some(duration) = load.eject(ejection, now) {
            let (address, service) = (self.address(), &self.board.name);
            tracing::warn!(%address, service, ?code, ?duration, "it keeps failing: no calls for a while");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let load = self.connection.load();
        if !self.is_answered {
            load.given_up(self.begun.elapsed(), self.board.now());
        }
        load.end();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("address", self.address()).finish_non_exhaustive()
    }
}
