//! The watch of a service that several registrations of a process share.

use super::loss::{lease_lost, overwritten_by};
use crate::Backoff;
use crate::bounds::retry_backoff;
use crate::follow::{FollowEvent, FollowOptions, follow};
use futures_util::StreamExt;
use registry_core::{
    Batch, Change, DEFAULT_TTL, Error, ErrorKind, Holder, InstanceId, Lease, LeaseId, Record,
    Registry, Revision, ServiceName, Snapshot,
};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The timeout for opening a watch.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait before a refused watch is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The number of consecutive refusals after which registrations watch their records individually.
const MAX_REFUSALS: u32 = 3;

/// The maximum number of registrations of a service that have a watch of their own. The others share one.
const MAX_SINGLE_WATCHERS: usize = 8;

/// The registrations of a service in one registry and one runtime.
#[derive(Debug)]
pub(super) struct ServiceRecords {
    key: ServiceKey,
    registry: Arc<dyn Registry>,
    state: Mutex<State>,
    /// Notified when a member needs a load, and when the last member was dropped.
    changed: Notify,
}

/// A runtime, the address of a registry, and a service.
type ServiceKey = (Id, usize, ServiceName);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<MemberKey, Member>,
    last_number: u64,
    /// The number of registrations that have a watch of their own.
    single_watchers: usize,
    task: TaskState,
    /// A lower bound of the time when the current load began.
    load_begin: Option<Instant>,
    /// The number of consecutive refusals of the watch.
    refusals: u32,
    needs_load: bool,
}

#[derive(Debug, Default)]
enum TaskState {
    /// There is no task.
    #[default]
    Ended,
    Loading,
    Watching {
        /// The revision up to which the holders are known.
        position: Revision,
        /// When the load began. It contains every write that was acknowledged before, even after a rollback.
        loaded: Instant,
        /// Whether the watch is open.
        is_live: bool,
    },
    /// The store refuses the watch of the service.
    Refused,
}

/// An instance id and a number, since several registrations of a process may have the same id.
type MemberKey = (InstanceId, u64);

#[derive(Debug)]
struct Member {
    held: Held,
    waker: Option<Waker>,
}

/// The known holder of an id.
#[derive(Clone, Copy, Debug)]
enum Held {
    Unknown,
    Vacant,
    By { lease: Option<LeaseId>, revision: Option<Revision> },
}

/// A guard that counts a registration with a watch of its own.
#[derive(Debug)]
pub(super) struct SingleWatcher(Arc<ServiceRecords>);

/// The membership of one registration.
#[derive(Debug)]
pub(super) struct Membership {
    records: Arc<ServiceRecords>,
    key: MemberKey,
}

impl ServiceRecords {
    /// Returns the shared records of `service` in the caller's runtime.
    pub(super) fn of(registry: &Arc<dyn Registry>, service: &ServiceName) -> Arc<Self> {
        let address = Arc::as_ptr(registry).cast::<()>() as usize;
        let key = (Handle::current().id(), address, service.clone());
        let mut all = lock_all();
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let new = Arc::new(Self {
            key: key.clone(),
            registry: registry.clone(),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        all.insert(key, Arc::downgrade(&new));
        new
    }

    /// Returns a guard for a watch of its own, unless [`MAX_SINGLE_WATCHERS`] registrations already have one.
    pub(super) fn single_watcher(self: &Arc<Self>) -> Option<SingleWatcher> {
        let mut state = self.lock();
        if state.single_watchers == MAX_SINGLE_WATCHERS {
            return None;
        }
        state.single_watchers += 1;
        Some(SingleWatcher(self.clone()))
    }

    /// Makes a registration of `id` a member, until the membership is dropped.
    pub(super) fn join(self: &Arc<Self>, id: &InstanceId) -> Membership {
        let mut state = self.lock();
        state.last_number += 1;
        let key = (id.clone(), state.last_number);
        state.members.insert(key.clone(), Member { held: Held::Unknown, waker: None });
        if matches!(state.task, TaskState::Ended) {
            state.invalidate();
            tokio::spawn(self.clone().run());
        }
        Membership { records: self.clone(), key }
    }

    /// Watches the service until no member is left.
    async fn run(self: Arc<Self>) {
        let _guard = PanicGuard(&self);
        let options = FollowOptions::default()
            .with_backoff(Backoff::new(Duration::from_millis(100), MAX_BACKOFF))
            .with_outage_backoff(retry_backoff(Backoff::default(), DEFAULT_TTL, 0))
            .with_timeout(OPEN_TIMEOUT);
        loop {
            let service = self.key.2.clone();
            let mut events = pin!(follow(self.registry.clone(), service, None, options));
            loop {
                match self.lock().next_step() {
                    Step::End => return,
                    Step::Load => break,
                    Step::Watch => {}
                }
                tokio::select! {
                    () = self.changed.notified() => {}
                    Some(event) = events.next() => {
                        let wakers = self.lock().handle(event);
                        wakers.into_iter().for_each(Waker::wake);
                    }
                }
            }
        }
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ServiceRecords {
    fn drop(&mut self) {
        let mut all = lock_all();
        // A new entry may have replaced this one.
        if all.get(&self.key).is_some_and(|records| records.strong_count() == 0) {
            all.remove(&self.key);
        }
    }
}

fn lock_all() -> MutexGuard<'static, HashMap<ServiceKey, Weak<ServiceRecords>>> {
    static ALL: LazyLock<Mutex<HashMap<ServiceKey, Weak<ServiceRecords>>>> =
        LazyLock::new(Mutex::default);
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks the task as ended if it panics, so that no member relies on stale holders and the next member starts a new
/// task.
struct PanicGuard<'a>(&'a ServiceRecords);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().task = TaskState::Ended;
        }
    }
}

/// The next step of the task.
enum Step {
    Watch,
    Load,
    End,
}

impl State {
    fn next_step(&mut self) -> Step {
        if self.members.is_empty() {
            self.task = TaskState::Ended;
            return Step::End;
        }
        if !std::mem::take(&mut self.needs_load) {
            return Step::Watch;
        }
        self.invalidate();
        Step::Load
    }

    /// Forgets all holders, since a load begins.
    fn invalidate(&mut self) {
        self.task = TaskState::Loading;
        self.load_begin = Some(Instant::now());
        self.members.values_mut().for_each(|member| member.held = Held::Unknown);
    }

    /// Handles an event, and returns the wakers of the members that it concerns.
    fn handle(&mut self, event: FollowEvent) -> Vec<Waker> {
        match event {
            FollowEvent::Reset(snapshot) => return self.reset(&snapshot),
            FollowEvent::Batch(batch) => return self.apply(&batch),
            FollowEvent::Opened(_) => self.refusals = 0,
            FollowEvent::Live => {
                match &mut self.task {
                    TaskState::Watching { is_live, .. } => *is_live = true,
                    // The watch resumes from a position whose holders were forgotten.
                    _ => self.needs_load = true,
                }
            }
            FollowEvent::Trouble(error) => return self.trouble(&error),
        }
        Vec::new()
    }

    fn trouble(&mut self, error: &Error) -> Vec<Waker> {
        let is_refused = is_refusal(error);
        self.refusals += u32::from(is_refused);
        if is_refused && (self.refusals >= MAX_REFUSALS || error.kind() == ErrorKind::Unsupported) {
            self.task = TaskState::Refused;
            return self.wakers();
        }
        match &mut self.task {
            // The watch resumes from its last position.
            TaskState::Watching { is_live, .. }
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied) =>
            {
                *is_live = false;
            }
            TaskState::Refused => {}
            _ => self.invalidate(),
        }
        Vec::new()
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.members.values_mut().filter_map(|member| member.waker.take()).collect()
    }

    fn reset(&mut self, snapshot: &Snapshot) -> Vec<Waker> {
        let position = snapshot.cursor().revision();
        let loaded = self.load_begin.unwrap_or_else(Instant::now);
        self.task = TaskState::Watching { position, loaded, is_live: false };
        for ((id, _), member) in &mut self.members {
            member.held = snapshot.records().find(id.as_str()).map_or(Held::Vacant, Held::by);
        }
        self.wakers()
    }

    fn apply(&mut self, batch: &Batch) -> Vec<Waker> {
        if let TaskState::Watching { position, .. } = &mut self.task {
            *position = batch.revision();
        }
        let mut wakers = Vec::new();
        for change in &batch.changes {
            let held = match change {
                Change::Put(record) => Held::by(record),
                Change::Delete(_) => Held::Vacant,
            };
            let of_id = (change.id().clone(), 0)..=(change.id().clone(), u64::MAX);
            for (_, member) in self.members.range_mut(of_id) {
                member.held = held;
                wakers.extend(member.waker.take());
            }
        }
        wakers
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported)
}

impl Held {
    fn by(record: &Record) -> Self {
        Self::By { lease: record.lease(), revision: record.revision() }
    }

    /// Returns whether the record is the one acknowledged to `own`.
    fn is_of(self, own: &Lease) -> bool {
        matches!(self, Self::By { lease, revision }
            if lease == Some(own.id()) && revision.is_none_or(|revision| revision == own.revision()))
    }
}

impl Membership {
    /// Returns whether the watch is open and shows that the record is the one acknowledged to `lease`.
    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        let state = self.records.lock();
        let member = state.members.get(&self.key);
        let is_live = matches!(state.task, TaskState::Watching { is_live: true, .. });
        is_live && member.is_some_and(|member| member.held.is_of(lease))
    }

    /// Waits until the record is no longer the one acknowledged to `lease`, and returns `LeaseLost`. Returns `None` if
    /// the store refuses the watch of the service.
    pub(super) async fn lost(&self, lease: &Lease) -> Option<Error> {
        let error_of = |held: Held| match held {
            // A record of the same lease at another revision is left to the presence check of the renewals.
            Held::By { lease: None, .. } => None,
            Held::By { lease: Some(holder), .. } if holder == lease.id() => None,
            Held::By { lease, .. } => Some(overwritten_by(lease)),
            _ => Some(lease_lost("the record is gone, but its registration did not delete it")),
        };
        let since = Instant::now();
        poll_fn(|cx| self.poll(lease.revision(), since, error_of, cx)).await
    }

    /// Waits until the store no longer refuses the watch of the service.
    pub(super) async fn readmitted(&self) {
        poll_fn(|cx| {
            let mut state = self.records.lock();
            if !matches!(state.task, TaskState::Refused) {
                return Poll::Ready(());
            }
            if let Some(member) = state.members.get_mut(&self.key) {
                member.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits until `holder` no longer holds the id. Returns `None` if the store refuses the watch of the service.
    pub(super) async fn released(&self, holder: &Holder) -> Option<()> {
        let claimed = holder.claimed().unwrap_or(Revision::new(0));
        let is_released = |held: Held| match held {
            Held::By { lease, .. } if lease == holder.lease() => None,
            _ => Some(()),
        };
        let since = Instant::now();
        poll_fn(|cx| self.poll(claimed, since, is_released, cx)).await
    }

    /// Returns the output of `check` for the holder of the id, as of `revision` or later. A load that began after
    /// `since` also counts as later, since a rollback lowers the revisions.
    fn poll<T>(
        &self,
        revision: Revision,
        since: Instant,
        check: impl Fn(Held) -> Option<T>,
        cx: &Context<'_>,
    ) -> Poll<Option<T>> {
        let mut state = self.records.lock();
        let is_current = match state.task {
            TaskState::Refused => return Poll::Ready(None),
            TaskState::Watching { position, loaded, .. } => position >= revision || loaded > since,
            TaskState::Ended | TaskState::Loading => false,
        };
        let Some(member) = state.members.get_mut(&self.key) else { return Poll::Pending };
        let held = member.held;
        if !matches!(held, Held::Unknown)
            && is_current
            && let Some(output) = check(held)
        {
            return Poll::Ready(Some(output));
        }
        member.waker = Some(cx.waker().clone());
        if matches!(held, Held::Unknown) && is_current && !state.needs_load {
            state.needs_load = true;
            drop(state);
            self.records.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.records.lock();
        let member = state.members.remove(&self.key);
        let is_last = state.members.is_empty();
        drop(state);
        drop(member); // outside of the lock: its waker is foreign code
        if is_last {
            self.records.changed.notify_one();
        }
    }
}

impl Drop for SingleWatcher {
    fn drop(&mut self) {
        self.0.lock().single_watchers -= 1;
    }
}
