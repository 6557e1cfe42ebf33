//! The commands that the handle of a registration sends to its task. One allocation holds all of it,
//! since a process may have 100,000 registrations.

use futures_util::task::AtomicWaker;
use registry_core::{Instance, InstanceStatus, Result};
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// Where the outcome of a command goes.
pub(super) type Reply = oneshot::Sender<Result<()>>;

/// Shared by a handle, which sends commands, and a task, which runs them.
#[derive(Debug)]
pub(super) struct CommandQueue {
    /// Held by whoever changes the desired instance, while its closure runs. It is taken before `pending`.
    updating: Mutex<()>,
    pending: Mutex<Pending>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Pending {
    /// The instance that is to be registered.
    desired: Instance,
    /// Whether it drains: no update makes it available again.
    is_draining: bool,
    /// The replies of updates that the task has not taken yet.
    updates: Vec<Reply>,
    stop: Stop,
    /// The replies of all stops: they get the same outcome.
    stops: Vec<Reply>,
}

#[derive(Debug)]
enum Stop {
    No,
    Requested,
    /// The task has taken the command.
    InProgress,
    /// The task has ended and runs no more commands. `None`: it ended otherwise than by a stop.
    Ended(Option<Result<()>>),
}

/// What the task does next.
#[derive(Debug)]
pub(super) enum Command {
    /// Register the desired instance, and send the outcome to these.
    Update(Vec<Reply>),
    /// Withdraw it.
    Stop,
}

impl Pending {
    /// Sets the desired instance, unless the task has ended: the dropped reply says so.
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

    /// Returns the instance that is to be registered.
    pub(super) fn desired(&self) -> Instance {
        self.lock().desired.clone()
    }

    /// Changes the desired instance. A dropped reply says that the task has ended.
    ///
    /// # Errors
    ///
    /// Those of `change`, after which nothing has changed.
    pub(super) fn update(
        &self,
        change: impl FnOnce(Instance) -> Result<Instance>,
        reply: Reply,
    ) -> Result<()> {
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = change(self.desired())?; // a caller's code, which may look at the registration
        let mut pending = self.lock();
        let drains = pending.is_draining;
        let instance =
            if drains { instance.with_status(InstanceStatus::Draining) } else { instance };
        pending.set_desired(instance, reply);
        drop(pending);
        self.task.wake();
        Ok(())
    }

    /// Sets the status of the desired instance to draining, for good.
    pub(super) fn drain(&self, reply: Reply) {
        let mut pending = self.lock();
        pending.is_draining = true;
        let instance = pending.desired.clone().with_status(InstanceStatus::Draining);
        pending.set_desired(instance, reply);
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

    /// Requests a stop, and sends its outcome to `reply`: at once if the task has ended. A dropped reply says that it ended
    /// otherwise.
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

    /// Requests a stop whose outcome nobody waits for: the handle was dropped.
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

    /// The task has ended with the `outcome` of a stop. Returns whether somebody waited for it.
    pub(super) fn stopped(&self, outcome: &Result<()>) -> bool {
        let stops = self.end(Some(outcome.clone()));
        let sent = stops.into_iter().map(|reply| reply.send(outcome.clone()).is_ok());
        sent.fold(false, |any, sent| any | sent)
    }

    /// The task has ended, whether it was stopped or not: no caller may wait for it any longer.
    pub(super) fn close(&self) {
        drop(self.end(None)); // wakes the callers that wait
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

    /// Takes the next command, if there is one. A stop comes first.
    pub(super) fn take(&self) -> Option<Command> {
        let mut pending = self.lock();
        if let Stop::Requested = pending.stop {
            pending.stop = Stop::InProgress;
            return Some(Command::Stop);
        }
        let updates = mem::take(&mut pending.updates);
        (!updates.is_empty()).then_some(Command::Update(updates))
    }

    /// Waits until there is a command, and leaves it in the queue. For one task.
    pub(super) async fn ready(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            let pending = self.lock();
            let is_ready = matches!(pending.stop, Stop::Requested) || !pending.updates.is_empty();
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
