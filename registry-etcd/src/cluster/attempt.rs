//! Requests that are in flight.

use super::{Cluster, Connection, SILENCE_TIMEOUT};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::Instant;

/// A request in flight. If its deadline passes after a period in which nothing was received on the
/// connection, the connection is closed: the link is dead or the member is paused.
///
/// If a caller gives up before the deadline, that says nothing about the connection, so its open streams
/// stay. But later requests use another connection, and this one is probed. It has until the original
/// deadline to show a sign of life.
pub(crate) struct Attempt {
    cluster: Cluster,
    connection: Arc<Connection>,
    start: Instant,
    deadline: Instant,
    is_finished: bool,
}

impl Cluster {
    /// Records a request in flight on `connection` with its `deadline`, until [`Attempt::finish`].
    pub(crate) fn attempt(&self, connection: &Arc<Connection>, deadline: Instant) -> Attempt {
        let (cluster, connection, start) = (self.clone(), connection.clone(), Instant::now());
        connection.begin_wait(start);
        Attempt { cluster, connection, start, deadline, is_finished: false }
    }
}

impl Attempt {
    /// Suspects the connection once it was silent for too long. Never returns.
    pub(crate) async fn suspect_when_silent(&self) -> Infallible {
        self.cluster.suspect_when_silent(&self.connection, || Some(self.deadline)).await
    }

    /// Records that the request has an outcome.
    pub(crate) fn finish(self) {
        let now = Instant::now();
        self.cluster.record_answer(now - self.start);
        self.finish_recorded();
    }

    /// Records an outcome whose response time was already recorded.
    pub(crate) fn finish_recorded(mut self) {
        self.is_finished = true;
    }

    /// Returns when the request was sent.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.connection.end_wait();
        let now = Instant::now();
        let silence = now - self.start.max(self.connection.last_activity());
        if self.is_finished {
            return;
        }
        if silence < self.cluster.silence_timeout() {
            if now >= self.deadline {
                self.cluster.switch_member(&self.connection);
            }
            return;
        }
        if now >= self.deadline {
            self.cluster.close_connection(&self.connection);
        } else {
            self.cluster.replace(&self.connection);
            let deadline = self.deadline.max(now + SILENCE_TIMEOUT);
            self.cluster.close_unless_alive_by(deadline, &self.connection);
        }
    }
}
