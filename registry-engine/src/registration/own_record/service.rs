//! One watch of a service, for all registrations of a process that are its members.

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

/// How long the store may take to open a watch.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait until a store that refuses a watch is asked again.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// After how many refusals in a row registrations watch by themselves.
const MAX_REFUSALS: u32 = 3;

/// How many registrations of a service have a watcher each. The others share one of the service.
const MAX_SINGLE_WATCHERS: usize = 8;

/// The registrations of a service in one runtime, at one registry.
#[derive(Debug)]
pub(super) struct ServiceRecords {
    key: ServiceKey,
    registry: Arc<dyn Registry>,
    state: Mutex<State>,
    /// Notified when a member needs a load, and when the last one left.
    changed: Notify,
}

/// A runtime, the address of a registry, and a service.
type ServiceKey = (Id, usize, ServiceName);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<MemberKey, Member>,
    last_number: u64,
    /// How many registrations have a watcher of their own.
    single_watchers: usize,
    task: TaskState,
    /// When the next load begins at the earliest.
    load_begin: Option<Instant>,
    /// How often the store refused in a row to let this process watch the service.
    refusals: u32,
    needs_load: bool,
}

#[derive(Debug, Default)]
enum TaskState {
    /// No task runs.
    #[default]
    Ended,
    Loading,
    Watching {
        /// Up to which revision the members are known.
        position: Revision,
        /// When the load began. Whatever was acknowledged before is in it, also after a rollback.
        loaded: Instant,
        /// Whether the watch is open.
        is_live: bool,
    },
    /// The store refuses to let this process watch the service.
    Refused,
}

/// An id, and a number, since two registrations of a process may have the same id.
type MemberKey = (InstanceId, u64);

#[derive(Debug)]
struct Member {
    held: Held,
    waker: Option<Waker>,
}

/// Who holds an id.
#[derive(Clone, Copy, Debug)]
enum Held {
    Unknown,
    Vacant,
    By { lease: Option<LeaseId>, revision: Option<Revision> },
}

/// Counts a registration that has a watcher of its own.
#[derive(Debug)]
pub(super) struct SingleWatcher(Arc<ServiceRecords>);

/// The membership of one registration.
#[derive(Debug)]
pub(super) struct Membership {
    records: Arc<ServiceRecords>,
    key: MemberKey,
}

impl ServiceRecords {
    /// Returns the one of the caller's runtime.
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

    /// Lets a registration have a watcher of its own, if there are few yet.
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
            state.void();
            tokio::spawn(self.clone().run());
        }
        Membership { records: self.clone(), key }
    }

    /// Watches the service until no member is left, or the store refuses it.
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

    /// Held for a few assignments; no code panics meanwhile.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ServiceRecords {
    fn drop(&mut self) {
        let mut all = lock_all();
        // Another one may have taken its place.
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

/// If the task panics, nobody takes what it knew for current, and the next member starts another one.
struct PanicGuard<'a>(&'a ServiceRecords);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().task = TaskState::Ended;
        }
    }
}

/// What the task does next.
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
        self.void();
        Step::Load
    }

    /// What is known is of the past, and a load begins.
    fn void(&mut self) {
        self.task = TaskState::Loading;
        self.load_begin = Some(Instant::now());
        self.members.values_mut().for_each(|member| member.held = Held::Unknown);
    }

    /// Takes in an event. Returns whom to wake.
    fn handle(&mut self, event: FollowEvent) -> Vec<Waker> {
        match event {
            FollowEvent::Reset(snapshot) => return self.reset(&snapshot),
            FollowEvent::Batch(batch) => return self.apply(&batch),
            FollowEvent::Opened(_) => self.refusals = 0,
            FollowEvent::Live => {
                match &mut self.task {
                    TaskState::Watching { is_live, .. } => *is_live = true,
                    // It goes on from a position that was given up.
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
            // The watch goes on from where it was.
            TaskState::Watching { is_live, .. }
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied) =>
            {
                *is_live = false;
            }
            TaskState::Refused => {}
            _ => self.void(),
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

    /// Returns whether the record is the acknowledged one of `lease`.
    fn is_of(self, own: &Lease) -> bool {
        matches!(self, Self::By { lease, revision }
            if lease == Some(own.id()) && revision.is_none_or(|revision| revision == own.revision()))
    }
}

impl Membership {
    /// Returns whether the watch is open and says that the record is the acknowledged one of `lease`.
    pub(super) fn is_held_by(&self, lease: &Lease) -> bool {
        let state = self.records.lock();
        let member = state.members.get(&self.key);
        let is_live = matches!(state.task, TaskState::Watching { is_live: true, .. });
        is_live && member.is_some_and(|member| member.held.is_of(lease))
    }

    /// Waits until the record is no longer the acknowledged one of `lease`, and returns `LeaseLost`. `None`: the store refuses
    /// to let this process watch the service.
    pub(super) async fn lost(&self, lease: &Lease) -> Option<Error> {
        let error_of = |held: Held| match held {
            // With another revision it is not proven, and renewals find out.
            Held::By { lease: None, .. } => None,
            Held::By { lease: Some(holder), .. } if holder == lease.id() => None,
            Held::By { lease, .. } => Some(overwritten_by(lease)),
            _ => Some(lease_lost("the record is gone, and not by its registration")),
        };
        let since = Instant::now();
        poll_fn(|cx| self.poll(lease.revision(), since, error_of, cx)).await
    }

    /// Waits until the store no longer refuses to let this process watch the service.
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

    /// Waits until `holder` no longer holds the id. `None`: as for [`lost`](Self::lost).
    pub(super) async fn released(&self, holder: &Holder) -> Option<()> {
        let claimed = holder.claimed().unwrap_or(Revision::new(0));
        let is_released = |held: Held| match held {
            Held::By { lease, .. } if lease == holder.lease() => None,
            _ => Some(()),
        };
        let since = Instant::now();
        poll_fn(|cx| self.poll(claimed, since, is_released, cx)).await
    }

    /// Returns the output of `check` for who holds the id, as of `revision` or later, or as of a load that began after
    /// `since`: after a rollback, revisions are lower than before.
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
        drop(member); // its waker is foreign code
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
