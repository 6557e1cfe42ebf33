//! A call under way, and what its endpoint is known by afterwards.

use crate::body::ResponseBody;
use crate::channel::Board;
use crate::ejection::Probe;
use crate::endpoint::Connection;
use crate::status::{self, Cause, Outcome};
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body::Body as _;
use registry_core::BoxError;
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The header, or trailer, in which a server says what came of a call.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A call under way. Dropped before anything came of it, it was given up.
pub(crate) struct Call {
    connection: Arc<Connection>,
    board: Arc<Board>,
    begun: Instant,
    /// The right to show whether an ejected endpoint serves again, until it was shown.
    probe: Option<Probe>,
    /// Whether it was answered, or there is no answer to wait for.
    is_answered: bool,
    /// Whether it is known what came of it.
    is_judged: bool,
}

impl Call {
    pub(crate) fn begin(
        connection: Arc<Connection>,
        board: Arc<Board>,
        begun: Instant,
        probe: Option<Probe>,
    ) -> Self {
        connection.load().begin();
        Self { connection, board, begun, probe, is_answered: false, is_judged: false }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// It was answered. It is over when the body of the answer is.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<ResponseBody> {
        self.is_answered = true;
        let is_all = response.body().is_end_stream();
        if response.status() != StatusCode::OK && !response.headers().contains_key(&GRPC_STATUS) {
            // A proxy said so, or who does not speak gRPC.
            self.conclude(Outcome::Failure);
        } else {
            let now = Instant::now();
            let took = now.saturating_duration_since(self.begun);
            self.connection.load().answered(took, self.board.ticks(now));
            // Headers alone say what came of it where nothing follows.
            if is_all && self.judge(response.headers()) {
                return response.map(|body| ResponseBody::new(body, self));
            }
            // It serves, whatever is to come: a stream may go on for hours.
            self.recover();
        }
        response.map(|body| ResponseBody::new(body, self))
    }

    /// Its answer has ended, with these trailers.
    pub(crate) fn ended(mut self, trailers: Option<&HeaderMap>) {
        let judged = trailers.is_some_and(|trailers| self.judge(trailers));
        if !judged && !self.is_judged {
            // Every call ends with a status: this one was cut off.
            self.conclude(Outcome::Failure);
        }
    }

    /// The transport failed it: returns the status to fail with.
    pub(crate) fn failed(mut self, cause: Cause, error: BoxError) -> Status {
        if cause != Cause::TimedOut {
            self.is_answered = true; // how long it took says nothing
        }
        self.conclude(cause.outcome());
        cause.status(error)
    }

    /// It goes to another endpoint, and says of this one but that its connection is gone.
    pub(crate) fn moves_on(mut self, cause: Cause) {
        self.is_answered = true;
        if cause == Cause::NeverSent {
            self.connection.lose();
        }
        let (address, service) = (self.connection.address(), &self.board.name);
        tracing::debug!(%address, service, ?cause, "a call goes to another endpoint");
        self.board.meters.replayed();
    }

    /// Takes in what headers or trailers say came of it. Whether they do.
    fn judge(&mut self, headers: &HeaderMap) -> bool {
        let Some(status) = headers.get(&GRPC_STATUS) else { return false };
        self.conclude(status::outcome(Code::from_bytes(status.as_bytes())));
        true
    }

    /// Takes in what came of it.
    fn conclude(&mut self, outcome: Outcome) {
        self.is_judged = true;
        match outcome {
            Outcome::Neither => {}
            Outcome::Success => {
                self.connection.load().succeeded();
                self.recover();
            }
            Outcome::Failure => self.count_failure(),
        }
    }

    /// If it was a probe, it has shown that its endpoint serves: what was known of that is over.
    fn recover(&mut self) {
        let Some(probe) = self.probe.take() else { return };
        self.connection.standing().readmit(probe);
        self.connection.load().answered_again(self.begun.elapsed(), self.board.now());
    }

    fn count_failure(&mut self) {
        let now = self.board.now();
        let failures = self.connection.load().failed(now);
        let Some(ejection) = &self.board.options.ejection else { return };
        // Of one on probation a single failure is enough, if it is that of its probe.
        let is_enough = failures >= ejection.failures || self.probe.is_some();
        if !is_enough {
            return;
        }
        if !self.board.may_eject(now) {
            // It is there for when nobody else is, and looks slow: one that awaits its probe would come first.
            if let Some(probe) = self.probe.take() {
                self.connection.standing().readmit(probe);
            }
            return;
        }
        if let Some(duration) = self.connection.standing().eject(ejection, now) {
            let (address, service) = (self.connection.address(), &self.board.name);
            tracing::warn!(%address, service, failures, ?duration, "it keeps failing: no calls for a while");
            self.board.meters.ejected();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_answered {
            let now = self.board.now();
            let is_failure = self.connection.load().given_up(self.begun.elapsed(), now);
            if is_failure && !self.is_judged {
                self.count_failure();
            }
        }
        if let Some(probe) = self.probe.take() {
            self.connection.standing().release(probe);
        }
        self.connection.load().end();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("address", self.connection.address()).finish_non_exhaustive()
    }
}
