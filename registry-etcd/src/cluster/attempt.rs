//! A request whose answer is waited for.

use super::{Cluster, Connection, SILENCE_TIMEOUT};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::Instant;

/// Something that is waited for. Once its deadline has passed, after a while in which nothing at all was heard
/// on the connection, the connection is given up: a link that went silent, or a member that stands still.
///
/// A caller may give up earlier. That tells nothing of the connection, so nothing that is open on it ends. But
/// later requests go over another one, and this one is asked for a sign of life: it has until the deadline that
/// the caller did not wait for.
pub(crate) struct Attempt {
    cluster: Cluster,
    connection: Arc<Connection>,
    start: Instant,
    deadline: Instant,
    is_finished: bool,
}

impl Cluster {
    /// Notes that something is waited for on `connection` up to `deadline`, until [`Attempt::finish`].
    pub(crate) fn attempt(&self, connection: &Arc<Connection>, deadline: Instant) -> Attempt {
        let (cluster, connection, start) = (self.clone(), connection.clone(), Instant::now());
        connection.begin_wait(start);
        Attempt { cluster, connection, start, deadline, is_finished: false }
    }
}

impl Attempt {
    /// Doubts the connection once nothing was heard on it for long. It has no end.
    pub(crate) async fn doubt(&self) -> Infallible {
        self.cluster.doubt(&self.connection, || Some(self.deadline)).await
    }

    /// There was an outcome.
    pub(crate) fn finish(self) {
        let now = Instant::now();
        self.cluster.record_answer(now - self.start);
        self.finish_recorded();
    }

    /// There was an outcome, and whoever heard it noted that.
    pub(crate) fn finish_recorded(mut self) {
        self.is_finished = true;
    }

    /// Since when it is waited for.
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
            self.cluster.close_unless_heard_by(deadline, &self.connection);
        }
    }
}
