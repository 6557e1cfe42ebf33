//! The commands that the handle of a registration sends to its task. One allocation holds all of it,
//! since a process may have 100,000 registrations.

use futures_util::task::AtomicWaker;
use registry_core::{Instance, Result};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// Where the outcome of a command goes.
pub(super) type Reply = oneshot::Sender<Result<()>>;

/// Shared by a handle, which sends commands, and a task, which runs them.
#[derive(Debug)]
pub(super) struct CommandQueue {
    pending: Mutex<Pending>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Pending {
    /// The instance that is to be registered.
    desired: Instance,
    /// The replies of updates that the task has not taken yet.
    updates: Vec<Reply>,
    stop: Option<Stop>,
    /// Whether the task has ended and runs no more commands.
    closed: bool,
}

#[derive(Debug)]
enum Stop {
    Requested(Reply),
    Dropped,
}

/// What the task does next.
#[derive(Debug)]
pub(super) enum Command {
    /// Register the desired instance, and send the outcome to these.
    Update(Vec<Reply>),
    /// Withdraw it, and send the outcome to this one, if there is one.
    Stop(Option<Reply>),
}

impl CommandQueue {
    pub(super) fn new(desired: Instance) -> Self {
        let pending = Pending { desired, updates: Vec::new(), stop: None, closed: false };
        Self { pending: Mutex::new(pending), task: AtomicWaker::new() }
    }

    /// Returns the instance that is to be registered.
    pub(super) fn desired(&self) -> Instance {
        self.lock().desired.clone()
    }

    /// Sets the desired instance. A dropped reply says that the task has ended.
    pub(super) fn update(&self, instance: Instance, reply: Reply) {
        let mut pending = self.lock();
        if pending.closed {
            return;
        }
        pending.desired = instance;
        pending.updates.retain(|reply| !reply.is_closed());
        pending.updates.push(reply);
        drop(pending);
        self.task.wake();
    }

    /// Returns from `refused` to `acknowledged`, unless another update came in between, even to the same data: its
    /// caller waits for an outcome of its own.
    pub(super) fn revert(&self, refused: &Instance, acknowledged: &Instance) {
        let mut pending = self.lock();
        if pending.desired == *refused && pending.updates.is_empty() {
            pending.desired = acknowledged.clone();
        }
    }

    pub(super) fn stop(&self, reply: Reply) {
        self.end(Stop::Requested(reply));
    }

    /// The handle was dropped. An earlier `stop` still counts.
    pub(super) fn abandon(&self) {
        self.end(Stop::Dropped);
    }

    fn end(&self, stop: Stop) {
        let mut pending = self.lock();
        if pending.closed || pending.stop.is_some() {
            return;
        }
        pending.stop = Some(stop);
        drop(pending);
        self.task.wake();
    }

    /// The task has ended: no caller may wait for it any longer.
    pub(super) fn close(&self) {
        let mut pending = self.lock();
        pending.closed = true;
        let unanswered = (std::mem::take(&mut pending.updates), pending.stop.take());
        drop(pending);
        drop(unanswered); // wakes the callers that wait
    }

    /// Takes the next command, if there is one. A stop comes first.
    pub(super) fn take(&self) -> Option<Command> {
        let mut pending = self.lock();
        match pending.stop.take() {
            Some(Stop::Requested(reply)) => return Some(Command::Stop(Some(reply))),
            Some(Stop::Dropped) => return Some(Command::Stop(None)),
            None => {}
        }
        let updates = std::mem::take(&mut pending.updates);
        (!updates.is_empty()).then_some(Command::Update(updates))
    }

    /// Waits until there is a command, and leaves it in the queue. For one task.
    pub(super) async fn ready(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            let pending = self.lock();
            let is_ready = pending.stop.is_some() || !pending.updates.is_empty();
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits for the next command. For one task.
    pub(super) async fn next(&self) -> Command {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Held for a few assignments; no code panics meanwhile.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
