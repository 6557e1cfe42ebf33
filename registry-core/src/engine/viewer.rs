//! The task behind a view: follows the service, keeps what may be kept, publishes the picture.

use super::board::Board;
use super::cold_start::ColdStart;
use super::discovery::DiscoveryOptions;
use super::follow::{Pace, Step, follow};
use super::metrics::ViewMeters;
use super::retain::Retention;
use super::view::{Picture, ViewState};
use crate::{
    Batch, Change, Error, ErrorKind, Instance, Instances, Registry, Result, ServiceName, Snapshot,
};
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::{FutureExt, Stream, StreamExt};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Waker;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

/// How many steps are taken in before the picture is published: a burst costs one copy of it.
const BURST: usize = 256;

/// The answer to a load that is to confirm a loss, and when it was asked for.
type Confirmation = (Instant, Result<Result<Snapshot>, Elapsed>);

pub(crate) struct Viewer {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    options: DiscoveryOptions,
    board: Arc<Board>,
    meters: ViewMeters,
    /// What the store said last, and what of it is not published yet.
    truth: Option<Snapshot>,
    state: ViewState,
    retention: Retention,
    confirmation: Option<BoxFuture<'static, Confirmation>>,
    cold_start: Option<ColdStart>,
    unsaid: Vec<Arc<Batch>>,
    restarted: bool,
    dirty: bool,
    version: u64,
    wakers: Vec<Waker>,
}

impl Viewer {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        service: ServiceName,
        options: DiscoveryOptions,
    ) -> Self {
        let state = ViewState::Loading { since: Instant::now() };
        let blank = Picture {
            instances: Instances::default(),
            retained: Box::default(),
            truth: None,
            state: state.clone(),
            version: 0,
        };
        let cold_start = options.snapshots.as_deref().map(|dir| ColdStart::new(dir, &service));
        let meters = ViewMeters::new(&service);
        Self {
            retention: Retention::new(options.retain.then_some(options.ttl)),
            board: Arc::new(Board::new(blank, meters.coalesced())),
            meters,
            registry,
            service,
            options,
            truth: None,
            state,
            confirmation: None,
            cold_start,
            unsaid: Vec::new(),
            restarted: false,
            dirty: false,
            version: 0,
            wakers: Vec::new(),
        }
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        self.start_cold().await;
        let cursor = self.truth.as_ref().map(|truth| truth.cursor().clone());
        let pace = Pace { backoff: self.options.backoff, timeout: self.options.timeout };
        let mut steps = pin!(follow(self.registry.clone(), self.service.clone(), cursor, pace));
        loop {
            let expiry = self.retention.next_expiry().map(sleep_until);
            let doubt = self.doubt().map(sleep_until);
            let save = self.cold_start.as_ref().and_then(ColdStart::due).map(sleep_until);
            tokio::select! {
                Some(step) = steps.next() => self.take_burst(step, steps.as_mut()),
                Some(()) = OptionFuture::from(expiry) => self.expire(),
                Some(()) = OptionFuture::from(doubt) => self.confirm(),
                Some(loaded) = OptionFuture::from(self.confirmation.as_mut()) => self.confirmed(loaded),
                Some(()) = OptionFuture::from(save) => self.save(),
                else => return, // the steps have no end
            }
            self.publish();
        }
    }

    /// Shows what an earlier process saw last, if it left a file.
    async fn start_cold(&mut self) {
        let Some(cold_start) = &self.cold_start else { return };
        self.truth = cold_start.read().await;
        self.restarted = self.truth.is_some();
        self.dirty = self.restarted;
        self.publish();
    }

    /// Takes in `step`, and what else is there already.
    fn take_burst(&mut self, step: Step, mut steps: Pin<&mut impl Stream<Item = Step>>) {
        let mut taken = 1;
        self.take(step);
        while taken < BURST
            && let Some(Some(step)) = steps.next().now_or_never()
        {
            self.take(step);
            taken += 1;
        }
        self.meters.lag(taken);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reset(snapshot) => self.reset(snapshot),
            Step::Live => {
                self.retention.recovered(Instant::now());
                self.turn(ViewState::Live);
            }
            Step::Batch(batch) => self.apply(batch),
            Step::Trouble(error) => self.trouble(error),
        }
    }

    fn reset(&mut self, snapshot: Snapshot) {
        let now = Instant::now();
        if let Some(before) = &self.truth {
            let gone = missing(before.instances(), snapshot.instances());
            if !gone.is_empty() {
                tracing::info!(service = %self.service, gone = gone.len(), "instances are gone after a reload");
            }
            self.retention.reset(now, snapshot.instances(), gone);
        }
        self.meters.undecodable(snapshot.undecodable());
        self.truth = Some(snapshot);
        self.restarted = true;
        self.said();
    }

    fn apply(&mut self, batch: Batch) {
        let Some(truth) = &mut self.truth else { return };
        if batch.is_progress() {
            truth.apply(batch); // nothing that anybody sees
            return;
        }
        for change in &batch.changes {
            match change {
                Change::Put(instance) => self.retention.listed(instance.id()),
                Change::Delete(id) => {
                    if let Some(instance) = truth.instances().find(id.as_str()) {
                        self.retention.deleted(Instant::now(), instance.clone());
                    }
                }
            }
        }
        self.unsaid.push(Arc::new(batch.clone()));
        truth.apply(batch);
        self.said();
    }

    /// The store said something that changes the picture.
    fn said(&mut self) {
        self.dirty = true;
        if let Some(cold_start) = &mut self.cold_start {
            cold_start.outdate();
        }
    }

    fn trouble(&mut self, error: Error) {
        // A store that forgot history is not in trouble: nothing is wrong with what it says.
        if error.kind() != ErrorKind::Compacted {
            self.retention.trouble(Instant::now(), self.board.picture().instances.len());
        }
        let reload = !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied);
        self.meters.disrupted(error.kind(), reload && self.truth.is_some());
        let since = match self.state {
            ViewState::Live => Instant::now(),
            ViewState::Loading { since } | ViewState::Stale { since, .. } => since,
        };
        if self.state.is_live() {
            tracing::warn!(service = %self.service, error = %error.chain(), "a view lost its watch");
        } else {
            tracing::debug!(service = %self.service, error = %error.chain(), "a view is still stale");
        }
        self.confirmation = None; // what was asked before says nothing of the time after
        self.turn(ViewState::Stale { since, why: error });
    }

    fn turn(&mut self, state: ViewState) {
        let same = match (&self.state, &state) {
            (ViewState::Live, ViewState::Live) => true,
            (ViewState::Stale { why: before, .. }, ViewState::Stale { why, .. }) => {
                before.kind() == why.kind()
            }
            _ => false,
        };
        if !same && state.is_live() {
            tracing::info!(service = %self.service, "a view is live");
        }
        self.dirty |= !same;
        self.meters.staleness(&state);
        self.state = state;
    }

    /// When to ask the store once more whether what is retained is lost.
    fn doubt(&self) -> Option<Instant> {
        let asks = self.state.is_live() && self.confirmation.is_none();
        self.retention.next_load().filter(|_| asks)
    }

    fn confirm(&mut self) {
        let (registry, service) = (self.registry.clone(), self.service.clone());
        let limit = self.options.timeout;
        let load = async move { timeout(limit, registry.load(&service)).await };
        let asked = Instant::now();
        self.confirmation = Some(load.map(move |loaded| (asked, loaded)).boxed());
    }

    fn confirmed(&mut self, (asked, loaded): Confirmation) {
        self.confirmation = None;
        if let Ok(Ok(loaded)) = loaded {
            self.retention.confirm(asked, loaded.instances());
            self.dirty = true;
        } else {
            tracing::debug!(service = %self.service, "a loss could not be confirmed yet");
            self.retention.postpone(asked);
        }
    }

    fn expire(&mut self) {
        self.retention.expire(Instant::now());
        self.dirty = true;
    }

    fn save(&mut self) {
        if let (Some(cold_start), Some(truth)) = (&mut self.cold_start, &self.truth) {
            cold_start.save(truth.clone());
        }
    }

    /// Shows what is new, and wakes those who wait for it.
    fn publish(&mut self) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        self.version += 1;
        let retained: Box<[_]> = self.retention.kept().cloned().collect();
        let listed = self.truth.as_ref().map(|truth| truth.instances().clone());
        let mut instances = listed.unwrap_or_default();
        instances.apply(retained.iter().map(|retained| Change::Put(retained.instance.clone())));
        self.meters.shown(instances.len(), retained.len());
        let (truth, state, version) = (self.truth.clone(), self.state.clone(), self.version);
        self.board.show(Picture { instances, retained, truth, state, version });
        match &self.truth {
            Some(truth) if std::mem::take(&mut self.restarted) => {
                self.unsaid.clear();
                self.board.restart(truth.clone());
            }
            Some(truth) => self.board.append(truth.clone(), &mut self.unsaid),
            None => {}
        }
        self.board.take_wakers(&mut self.wakers);
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Viewer {
    /// The last handle is gone; or the runtime is, and the handles that are left must not seem live.
    fn drop(&mut self) {
        let why = Error::new(ErrorKind::Internal, "the runtime of the view has shut down");
        self.turn(ViewState::Stale { since: Instant::now(), why });
        self.publish();
        self.meters.close();
    }
}

/// What is in `before` and not in `after`. Both are sorted by id.
fn missing(before: &Instances, after: &Instances) -> Vec<Instance> {
    let mut after = after.iter().peekable();
    let is_missing = |instance: &&Instance| {
        while after.next_if(|next| next.id() < instance.id()).is_some() {}
        after.peek().is_none_or(|next| next.id() != instance.id())
    };
    before.iter().filter(is_missing).cloned().collect()
}
