//! The feed: one task and one connection for all watches of a handle.
//!
//! It begins with the first watch and ends with the last. When its connection fails, all watches do,
//! and the next one begins another feed: nothing is retried in secret.

mod open_shard;
mod task;

use self::task::Task;
use crate::error::Fault;
use crate::history::Position;
use crate::shard::Shard;
use crate::store::Store;
use registry_core::{Origin, Publisher, ServiceName};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How many joins may wait for the task. It takes them as they come, and never waits for anything.
const JOINS: usize = 1024;

/// The way to the task, if it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    joins: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
}

/// A watch that has caught up with a shard's log and wants what follows.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) shard: Shard,
    pub(crate) service: ServiceName,
    pub(crate) origin: Origin,
    /// How far it has come.
    pub(crate) at: Position,
    /// When the next lease of the shard falls due, as of there.
    pub(crate) due: Option<Instant>,
    pub(crate) publisher: Publisher,
}

type Request = (Join, oneshot::Sender<Position>);

impl Feed {
    /// Has the task publish to a watch, from the position returned on: where the watch has come to,
    /// or further on if the task is ahead of it.
    pub(crate) async fn join(&self, store: &Arc<Store>, join: Join) -> Result<Position, Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(store, (join, answer))?;
        // No deadline: the task answers at once, or is gone.
        answered.await.map_err(|_| Fault::FeedEnded)
    }

    /// Hands a request to the task, which is started if none runs.
    fn send(&self, store: &Arc<Store>, request: Request) -> Result<(), Fault> {
        // Under the lock no task ends with a request in its queue.
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        let request = match &*joins {
            None => request,
            Some(running) => match running.try_send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Fault::Crowded),
                Err(mpsc::error::TrySendError::Closed(request)) => request,
            },
        };
        let (sender, receiver) = mpsc::channel(JOINS);
        sender.try_send(request).map_err(|_| Fault::Crowded)?;
        *joins = Some(sender);
        tokio::spawn(Task::new(store.clone(), self.clone(), receiver).run());
        Ok(())
    }

    /// Takes the next request; if there is none, the caller's task is no longer the one that runs.
    fn next_or_retire(&self, joins: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let mut running = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        let next = joins.try_recv().ok();
        if next.is_none() {
            *running = None;
        }
        next
    }
}
