//! The queue of commands from the handles of a registration to its task. It is a single allocation, since a process may
//! have 100,000 registrations.

use futures_util::task::AtomicWaker;
use registry_core::{Instance, InstanceStatus, Result};
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// Receives the outcome of a command.
pub(super) type Reply = oneshot::Sender<Result<()>>;

/// A queue of commands, shared by the handles, which send commands, and the task, which runs them.
#[derive(Debug)]
pub(super) struct CommandQueue {
    /// The lock is held while the closure of an update runs. Always locked before `pending`.
    updating: Mutex<()>,
    pending: Mutex<Pending>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Pending {
    /// The instance to register.
    desired: Instance,
    /// Whether the instance is draining. Then no update makes it available again.
    is_draining: bool,
    /// The replies of updates that the task has not taken yet.
    updates: Vec<Reply>,
    stop: Stop,
    /// The replies of all stops, which get the same outcome.
    stops: Vec<Reply>,
}

#[derive(Debug)]
enum Stop {
    No,
    Requested,
    /// The task has taken the command.
    InProgress,
    /// The task has ended and runs no more commands. `None` if it did not end by a stop.
    Ended(Option<Result<()>>),
}

/// A command to the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Register the desired instance, and send the outcome to these replies.
    Update(Vec<Reply>),
    /// Withdraw the instance.
    Stop,
}

impl Pending {
    /// Sets the desired instance. If the task has ended, drops the reply, so that the caller gets an error.
    fn set_desired(&mut self, instance: Instance, reply: Reply) {
        if let Stop::Ended(_) = self.stop {
            return;
        }
        self.desired = instance;
        self.updates.retain(|reply| !reply.is_closed());
        self.updates.push(reply);
    }
}

impl CommandQueue {
    pub(super) fn new(desired: Instance) -> Self {
        let (updates, stops) = (Vec::new(), Vec::new());
        let pending = Pending { desired, is_draining: false, updates, stop: Stop::No, stops };
        let (updating, pending) = (Mutex::default(), Mutex::new(pending));
        Self { updating, pending, task: AtomicWaker::new() }
    }

    /// Returns the instance to register.
    pub(super) fn desired(&self) -> Instance {
        self.lock().desired.clone()
    }

    /// Changes the desired instance. The reply is dropped if the task has ended.
    ///
    /// # Errors
    ///
    /// Those of `change`. The desired instance is unchanged then.
    pub(super) fn update(
        &self,
        change: impl FnOnce(Instance) -> Result<Instance>,
        reply: Reply,
    ) -> Result<()> {
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = change(self.desired())?; // user code, which may read the registration: `pending` is not locked
        let mut pending = self.lock();
        let drains = pending.is_draining;
        let instance =
            if drains { instance.with_status(InstanceStatus::Draining) } else { instance };
        pending.set_desired(instance, reply);
        drop(pending);
        self.task.wake();
        Ok(())
    }

    /// Sets the status of the desired instance to draining. It cannot be undone.
    pub(super) fn drain(&self, reply: Reply) {
        let mut pending = self.lock();
        pending.is_draining = true;
        let instance = pending.desired.clone().with_status(InstanceStatus::Draining);
        pending.set_desired(instance, reply);
        drop(pending);
        self.task.wake();
    }

    /// Reverts the desired instance from `refused` to `acknowledged`, unless another update is queued. Even an update
    /// to the same data must be sent, since its caller waits for its own outcome.
    pub(super) fn revert(&self, refused: &Instance, acknowledged: &Instance) {
        let mut pending = self.lock();
        if pending.desired == *refused && pending.updates.is_empty() {
            pending.desired = acknowledged.clone();
        }
    }

    /// Requests a stop, and sends its outcome to `reply`, at once if the task has already ended. The reply is dropped
    /// if the task did not end by a stop.
    pub(super) fn stop(&self, reply: Reply) {
        let mut pending = self.lock();
        if let Stop::Ended(outcome) = &pending.stop {
            let outcome = outcome.clone();
            drop(pending);
            outcome.map(|outcome| reply.send(outcome));
            return;
        }
        pending.stops.push(reply);
        self.request_stop(pending);
    }

    /// Requests a stop without a reply, because the handle was dropped.
    pub(super) fn abandon(&self) {
        self.request_stop(self.lock());
    }

    fn request_stop(&self, mut pending: MutexGuard<'_, Pending>) {
        if let Stop::No = pending.stop {
            pending.stop = Stop::Requested;
            drop(pending);
            self.task.wake();
        }
    }

    /// Records that the task ended with the `outcome` of a stop. Returns whether any caller received the outcome.
    pub(super) fn stopped(&self, outcome: &Result<()>) -> bool {
        let stops = self.end(Some(outcome.clone()));
        let sent = stops.into_iter().map(|reply| reply.send(outcome.clone()).is_ok());
        sent.fold(false, |any, sent| any | sent)
    }

    /// Records that the task ended in any way, so that no caller waits for it any longer.
    pub(super) fn close(&self) {
        drop(self.end(None)); // wakes the waiting callers
    }

    fn end(&self, outcome: Option<Result<()>>) -> Vec<Reply> {
        let mut pending = self.lock();
        if !matches!(pending.stop, Stop::Ended(_)) {
            pending.stop = Stop::Ended(outcome);
        }
        let updates = mem::take(&mut pending.updates);
        let stops = mem::take(&mut pending.stops);
        drop(pending);
        drop(updates);
        stops
    }

    /// Takes the next command, if there is one. A stop takes precedence over updates.
    pub(super) fn take(&self) -> Option<Command> {
        let mut pending = self.lock();
        if let Stop::Requested = pending.stop {
            pending.stop = Stop::InProgress;
            return Some(Command::Stop);
        }
        let updates = mem::take(&mut pending.updates);
        (!updates.is_empty()).then_some(Command::Update(updates))
    }

    /// Waits until there is a command, and leaves it in the queue. Only one task may wait.
    pub(super) async fn ready(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            let pending = self.lock();
            let is_ready = matches!(pending.stop, Stop::Requested) || !pending.updates.is_empty();
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits for the next command and takes it. Only one task may wait.
    pub(super) async fn next(&self) -> Command {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
