//! A connection: its active faults, and their effects on calls and watches.

use super::fault::{Fault, Hits};
use super::rng::Rng;
use registry_core::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A connection, shared by its handles, its calls and its watches.
#[derive(Debug)]
pub(super) struct Connection {
    // The lock is held for a few operations and never across an await. It may be taken while the store's lock
    // is held; no lock is taken while this one is held.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Sent only while the state is locked. Every call and watch has a receiver.
    conditions: watch::Sender<Conditions>,
    /// The open watches, by number.
    open: HashSet<u64>,
    opened: u64,
    rng: Rng,
    hits: Hits,
}

/// The active faults.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions {
    pub(super) latency: Option<(Duration, Duration)>,
    pub(super) slow: Option<Duration>,
    pub(super) outage: bool,
    pub(super) silent_since: Option<Instant>,
    pub(super) lost_replies: bool,
    /// How often the connection was lost. Calls and watches that began before a loss fail.
    losses: u64,
    last_loss: Loss,
}

/// Why the connection was lost.
#[derive(Clone, Copy, Debug, Default)]
enum Loss {
    #[default]
    Cut,
    Outage,
    Silence,
}

impl Connection {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            conditions: watch::Sender::new(Conditions::default()),
            open: HashSet::new(),
            opened: 0,
            rng: Rng::new(seed),
            hits: Hits::default(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Activates an ongoing fault.
    pub(super) fn begin(&self, fault: Fault) {
        self.with(|state| match fault {
            Fault::Latency { min, max } => state.update(|c| c.latency = Some((min, max))),
            Fault::SlowWatch { delay } => state.update(|c| c.slow = Some(delay)),
            Fault::LostReplies => state.update(|c| c.lost_replies = true),
            Fault::Outage => {
                state.update(|c| c.outage = true);
                state.lose(Loss::Outage);
            }
            Fault::Silence if !state.conditions.borrow().is_silent() => {
                state.hits.watches_silenced += state.open.len() as u64;
                state.update(|c| c.silent_since = Some(Instant::now()));
            }
            _ => {} // already active, or not an ongoing fault
        });
    }

    /// Ends all ongoing faults.
    pub(super) fn heal(&self) {
        self.with(|state| {
            let Conditions { silent_since, losses, last_loss, .. } = *state.conditions.borrow();
            state.update(|c| *c = Conditions { losses, last_loss, ..Conditions::default() });
            if silent_since.is_some() {
                state.lose(Loss::Silence);
            }
        });
    }

    /// Loses the connection. The next call uses a new one.
    pub(super) fn cut(&self) {
        self.with(|state| state.lose(Loss::Cut));
    }

    pub(super) fn hits(&self) -> Hits {
        self.with(|state| state.hits)
    }

    pub(super) fn hit(&self, count: impl FnOnce(&mut Hits)) {
        self.with(|state| count(&mut state.hits));
    }

    pub(super) fn conditions(&self) -> Conditions {
        self.with(|state| *state.conditions.borrow())
    }

    /// Draws a number below `n`.
    pub(super) fn draw_below(&self, n: u64) -> u64 {
        self.with(|state| state.rng.below(n))
    }

    /// Draws the delay of a watch item: half the latency of a call.
    pub(super) fn draw_delay(&self, (min, max): (Duration, Duration)) -> Duration {
        self.with(|state| state.rng.between(min, max)) / 2
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn update(&self, change: impl FnOnce(&mut Conditions)) {
        self.conditions.send_modify(change);
    }

    fn lose(&mut self, loss: Loss) {
        self.hits.watches_ended += self.open.len() as u64;
        self.open.clear();
        self.update(|conditions| {
            conditions.losses += 1;
            conditions.last_loss = loss;
        });
    }

    /// Returns the conditions, or an error if the store refuses calls.
    fn admit(&mut self) -> Result<Conditions> {
        let conditions = *self.conditions.borrow();
        if conditions.outage && !conditions.is_silent() {
            self.hits.calls_refused += 1;
            let message = "the store is down: retry when it is up";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(conditions)
    }
}

impl Conditions {
    pub(super) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }

    /// Returns whether a call or watch that began after `losses` losses must fail. During a silence it does
    /// not notice a loss.
    fn has_lost(&self, losses: u64) -> bool {
        !self.is_silent() && self.losses > losses
    }

    /// Returns the error of a lost connection.
    fn loss_error(&self) -> Error {
        let message = match self.last_loss {
            Loss::Cut => "the connection was cut: retry",
            Loss::Outage => "the store went down: retry when it is up",
            Loss::Silence => "the connection was silent and then found dead: retry",
        };
        Error::new(ErrorKind::Unavailable, message)
    }
}

/// A call in flight. Dropping it leaves nothing behind.
pub(super) struct Call {
    connection: Arc<Connection>,
    conditions: watch::Receiver<Conditions>,
    losses: u64,
    one_way: Duration,
    was_silenced: bool,
}

impl Call {
    /// Begins a call, unless the store refuses calls.
    pub(super) fn begin(connection: &Arc<Connection>) -> Result<Self> {
        connection.with(|state| {
            let Conditions { latency, losses, .. } = state.admit()?;
            let latency = latency.map(|(min, max)| state.rng.between(min, max));
            let one_way = latency.unwrap_or_default() / 2;
            state.hits.calls_delayed += u64::from(!one_way.is_zero());
            let (connection, conditions) = (connection.clone(), state.conditions.subscribe());
            Ok(Self { connection, conditions, losses, one_way, was_silenced: false })
        })
    }

    /// Waits while the request, or the reply, is in transit.
    pub(super) async fn transit(&mut self) -> Result<()> {
        let arrival = Instant::now() + self.one_way;
        loop {
            let conditions = *self.conditions.borrow_and_update();
            if conditions.is_silent() && !self.was_silenced {
                self.was_silenced = true;
                self.connection.hit(|hits| hits.calls_silenced += 1);
            }
            if conditions.has_lost(self.losses) {
                self.connection.hit(|hits| hits.calls_cut += u64::from(!self.was_silenced));
                return Err(conditions.loss_error());
            }
            if !conditions.is_silent() && Instant::now() >= arrival {
                return Ok(());
            }
            tokio::select! {
                biased;
                // The channel cannot close while this holds the connection.
                _ = self.conditions.changed() => {}
                () = sleep_until(arrival), if !conditions.is_silent() => {}
            }
        }
    }

    /// Returns the reply of the store, unless replies are lost.
    pub(super) fn finish<T>(self, reply: Result<T>) -> Result<T> {
        if !self.conditions.borrow().lost_replies {
            return reply;
        }
        self.connection.hit(|hits| hits.replies_lost += 1);
        let message = "the reply was lost, so the outcome is unknown: retry the call";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// An open watch's registration at the connection. Dropping it leaves nothing behind.
pub(super) struct WatchGuard {
    connection: Arc<Connection>,
    conditions: watch::Receiver<Conditions>,
    losses: u64,
    id: u64,
}

impl WatchGuard {
    /// Opens a watch, unless the store refuses calls.
    pub(super) fn open(connection: &Arc<Connection>) -> Result<Self> {
        connection.with(|state| {
            let Conditions { losses, .. } = state.admit()?;
            state.opened += 1;
            state.open.insert(state.opened);
            let (connection, id) = (connection.clone(), state.opened);
            Ok(Self { connection, conditions: state.conditions.subscribe(), losses, id })
        })
    }

    /// Returns the current conditions, or the error that ends the watch.
    pub(super) fn conditions(&mut self) -> Result<Conditions> {
        let conditions = *self.conditions.borrow_and_update();
        if conditions.has_lost(self.losses) { Err(conditions.loss_error()) } else { Ok(conditions) }
    }

    /// Waits until the conditions have changed since they were last returned.
    pub(super) async fn changed(&mut self) {
        if self.conditions.changed().await.is_err() {
            pending::<()>().await; // unreachable: this holds the connection, which owns the sender
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.connection.with(|state| state.open.remove(&self.id));
    }
}
