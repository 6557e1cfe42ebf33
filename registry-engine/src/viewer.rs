//! The task behind a view: follows the service, keeps what may be kept, publishes the picture.

use super::board::Board;
use super::cold_start::ColdStart;
use super::discovery::DiscoveryOptions;
use super::follow::{Pace, Step, follow};
use super::metrics::ViewMeters;
use super::pulse::Silence;
use super::retain::Retention;
use super::view::{Picture, ViewState};
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::{FutureExt, Stream, StreamExt};
use registry_core::{
    Batch, Change, Error, ErrorKind, Instance, Instances, Registry, Result, ServiceName, Snapshot,
};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::watch;
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
    silence: watch::Receiver<Silence>,
    /// What the store said last, to this process or, if not [confirmed](Self::confirmed), to an
    /// earlier one.
    truth: Option<Snapshot>,
    confirmed: bool,
    /// Whether there is a watch, as far as can be seen.
    watching: bool,
    /// What the watch was lost by, until it stands again.
    trouble: Option<ErrorKind>,
    state: ViewState,
    retention: Retention,
    confirmation: Option<BoxFuture<'static, Confirmation>>,
    cold_start: Option<ColdStart>,
    /// The batches that are not published yet; `None` if a reset is not, which is all of them.
    unsaid: Option<Vec<Arc<Batch>>>,
    dirty: bool,
    version: u64,
    wakers: Vec<Waker>,
}

impl Viewer {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        service: ServiceName,
        options: DiscoveryOptions,
        silence: watch::Receiver<Silence>,
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
            silence,
            registry,
            service,
            options,
            truth: None,
            confirmed: false,
            watching: false,
            trouble: None,
            state,
            confirmation: None,
            cold_start,
            unsaid: Some(Vec::new()),
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
        let pace = Pace { backoff: self.options.backoff, timeout: self.options.timeout };
        let mut steps = pin!(follow(self.registry.clone(), self.service.clone(), None, pace));
        loop {
            let expiry = self.retention.next_expiry().map(sleep_until);
            let doubt = self.doubt().map(sleep_until);
            let save = self.cold_start.as_ref().and_then(ColdStart::due).map(sleep_until);
            tokio::select! {
                Some(step) = steps.next() => self.take_burst(step, steps.as_mut()),
                Ok(()) = self.silence.changed() => self.listen(),
                Some(()) = OptionFuture::from(expiry) => self.expire(),
                Some(()) = OptionFuture::from(doubt) => self.confirm(),
                Some(loaded) = OptionFuture::from(self.confirmation.as_mut()) => self.confirmed(loaded),
                Some(()) = OptionFuture::from(save) => self.save(),
                else => return, // the steps have no end
            }
            self.publish();
        }
    }

    /// Shows what an earlier process saw last, if it left a file and the disk answers.
    async fn start_cold(&mut self) {
        let Some(cold_start) = &self.cold_start else { return };
        self.truth = timeout(self.options.timeout, cold_start.read()).await.unwrap_or_default();
        self.dirty = self.truth.is_some();
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
                self.watching = true;
                self.recovered();
            }
            Step::Batch(batch) => self.apply(batch),
            Step::Trouble(error) => self.trouble(error),
        }
    }

    fn reset(&mut self, snapshot: Snapshot) {
        let now = Instant::now();
        // What a file said long ago is not missed when a store that was never away says otherwise.
        let is_missed = self.confirmed || self.trouble.is_some();
        if let Some(before) = self.truth.as_ref().filter(|_| is_missed) {
            let gone = missing(before.instances(), snapshot.instances());
            if !gone.is_empty() {
                tracing::info!(service = %self.service, gone = gone.len(), "instances are gone after a reload");
            }
            self.retention.reset(now, snapshot.instances(), gone);
        }
        if let Some(reason) = self.trouble.take().filter(|_| self.confirmed) {
            self.meters.resynced(reason);
        }
        self.meters.undecodable(snapshot.undecodable());
        self.truth = Some(snapshot);
        self.confirmed = true;
        self.unsaid = None;
        self.said();
    }

    fn apply(&mut self, batch: Batch) {
        let Some(truth) = &mut self.truth else { return };
        if batch.is_progress() {
            truth.apply(batch); // nothing that anybody sees
            return;
        }
        let (now, listed) = (Instant::now(), truth.instances());
        for change in &batch.changes {
            match (change, listed.find(change.id().as_str())) {
                (Change::Put(instance), _) => self.retention.listed(instance.id()),
                (Change::Delete(_), Some(gone)) => {
                    self.retention.deleted(now, gone.clone(), listed.len());
                }
                (Change::Delete(_), None) => {}
            }
        }
        if let Some(unsaid) = &mut self.unsaid {
            unsaid.push(Arc::new(batch.clone()));
        }
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
            self.suspect();
        }
        self.watching = false;
        self.meters.disrupted(error.kind());
        if self.state.is_live() {
            tracing::warn!(service = %self.service, error = %error.chain(), "a view lost its watch");
        } else {
            tracing::debug!(service = %self.service, error = %error.chain(), "a view is not live yet");
        }
        self.confirmation = None;
        self.trouble = Some(error.kind());
        self.turn(ViewState::Stale { since: self.stale_since(), why: error });
    }

    /// The store is silent on a watch that stands, or answers again.
    fn listen(&mut self) {
        let silence = self.silence.borrow_and_update().clone();
        match silence {
            Some(error) if self.state.is_live() => {
                tracing::warn!(service = %self.service, error = %error.chain(), "a view's store is silent");
                self.meters.disrupted(error.kind());
                self.suspect();
                self.turn(ViewState::Stale { since: Instant::now(), why: error });
            }
            None if self.watching && !self.state.is_live() => self.recovered(),
            _ => {}
        }
    }

    fn suspect(&mut self) {
        let listed = self.truth.as_ref().map_or(0, |truth| truth.instances().len());
        self.retention.trouble(Instant::now(), listed);
        self.confirmation = None; // what was asked before says nothing of the time after
    }

    fn recovered(&mut self) {
        self.retention.recovered(Instant::now());
        self.turn(ViewState::Live);
    }

    fn stale_since(&self) -> Instant {
        match self.state {
            ViewState::Live => Instant::now(),
            ViewState::Loading { since } | ViewState::Stale { since, .. } => since,
        }
    }

    fn turn(&mut self, state: ViewState) {
        if state.is_live() {
            tracing::info!(service = %self.service, "a view is live");
            self.trouble = None;
        }
        self.meters.staleness(&state);
        self.state = state;
        self.dirty = true;
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
            self.dirty |= self.retention.confirm(asked, loaded.instances());
        } else {
            tracing::debug!(service = %self.service, "a loss could not be confirmed yet");
            self.retention.postpone(asked);
        }
    }

    fn expire(&mut self) {
        self.dirty |= self.retention.expire(Instant::now());
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
        if let Some(truth) = self.truth.as_ref().filter(|_| self.confirmed) {
            if let Some(batches) = &mut self.unsaid {
                self.board.append(truth.clone(), batches);
            } else {
                self.board.restart(truth.clone());
                self.unsaid = Some(Vec::new());
            }
        }
        self.board.take_wakers(&mut self.wakers);
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Viewer {
    /// The last handle is gone; or the runtime is, and the handles that are left must not seem live.
    fn drop(&mut self) {
        let why = Error::new(ErrorKind::Internal, "the runtime of the view has shut down");
        self.turn(ViewState::Stale { since: self.stale_since(), why });
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
