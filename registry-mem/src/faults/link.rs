//! One connection: the faults that hold on it, and the way of a call over it.

use super::dice::Dice;
use super::fault::{Fault, Hits};
use registry_core::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A connection, shared by its handles, the calls under way and the open watches.
#[derive(Debug)]
pub(super) struct Link {
    // Held for a few operations and never across an await. It may be taken under the store's lock;
    // no lock is taken under it.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Changed only while the state is locked; watched by all that waits.
    weather: watch::Sender<Weather>,
    /// The open watches, by number.
    open: HashSet<u64>,
    opened: u64,
    dice: Dice,
    hits: Hits,
}

/// The faults that hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) latency: Option<(Duration, Duration)>,
    pub(super) slow: Option<Duration>,
    pub(super) outage: bool,
    pub(super) silence: bool,
    pub(super) lost_replies: bool,
    /// How often the connection was lost. What began before an end is over.
    pub(super) ends: u64,
    /// How it was lost the last time.
    end: End,
}

#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Cut,
    Outage,
    Silence,
}

impl Link {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            weather: watch::Sender::new(Weather::default()),
            open: HashSet::new(),
            opened: 0,
            dice: Dice::new(seed),
            hits: Hits::default(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Lets an ongoing fault hold.
    pub(super) fn begin(&self, fault: Fault) {
        self.with(|state| match fault {
            Fault::Latency { min, max } => state.turn(|w| w.latency = Some((min, max))),
            Fault::SlowWatch { delay } => state.turn(|w| w.slow = Some(delay)),
            Fault::LostReplies => state.turn(|w| w.lost_replies = true),
            Fault::Outage => {
                state.turn(|w| w.outage = true);
                state.end(End::Outage);
            }
            Fault::Silence if !state.weather.borrow().silence => {
                state.hits.watches_silenced += state.open.len() as u64;
                state.turn(|w| w.silence = true);
            }
            _ => {} // it holds already, or is one that happens at once
        });
    }

    /// Ends all faults that hold.
    pub(super) fn heal(&self) {
        self.with(|state| {
            let Weather { silence, ends, end, .. } = *state.weather.borrow();
            state.turn(|w| *w = Weather { ends, end, ..Weather::default() });
            if silence {
                state.end(End::Silence);
            }
        });
    }

    /// Loses the connection, and has the next one at once.
    pub(super) fn cut(&self) {
        self.with(|state| state.end(End::Cut));
    }

    pub(super) fn hits(&self) -> Hits {
        self.with(|state| state.hits)
    }

    pub(super) fn hit(&self, count: impl FnOnce(&mut Hits)) {
        self.with(|state| count(&mut state.hits));
    }

    pub(super) fn weather(&self) -> Weather {
        self.with(|state| *state.weather.borrow())
    }

    /// A draw from the seed: a number below `n`.
    pub(super) fn below(&self, n: u64) -> u64 {
        self.with(|state| state.dice.below(n))
    }

    /// A draw from the seed: the time that an item of a watch is on its way.
    pub(super) fn one_way(&self, (min, max): (Duration, Duration)) -> Duration {
        self.with(|state| state.dice.between(min, max)) / 2
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn turn(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    fn end(&mut self, end: End) {
        self.hits.watches_ended += self.open.len() as u64;
        self.open.clear();
        self.turn(|weather| {
            weather.ends += 1;
            weather.end = end;
        });
    }
}

impl Weather {
    /// Why what was under way failed.
    pub(super) fn lost(&self) -> Error {
        let why = match self.end {
            End::Cut => "the connection was cut: try again",
            End::Outage => "the store went down: try again when it is up",
            End::Silence => "the connection went silent and turned out dead: try again",
        };
        Error::new(ErrorKind::Unavailable, why)
    }
}

/// A call under way. To drop it leaves nothing behind.
pub(super) struct Call {
    link: Arc<Link>,
    weather: watch::Receiver<Weather>,
    ends: u64,
    one_way: Duration,
    hung: bool,
}

impl Call {
    /// Sends a call off, if the store takes calls.
    pub(super) fn begin(link: &Arc<Link>) -> Result<Self> {
        link.with(|state| {
            let weather = *state.weather.borrow();
            if weather.outage && !weather.silence {
                state.hits.calls_refused += 1;
                return Err(down());
            }
            let whole = weather.latency.map(|(min, max)| state.dice.between(min, max));
            let one_way = whole.unwrap_or_default() / 2;
            state.hits.calls_delayed += u64::from(!one_way.is_zero());
            let (link, ends) = (link.clone(), weather.ends);
            Ok(Self { link, weather: state.weather.subscribe(), ends, one_way, hung: false })
        })
    }

    /// Goes one way, to the store or back.
    pub(super) async fn travel(&mut self) -> Result<()> {
        let arrival = Instant::now() + self.one_way;
        loop {
            let weather = *self.weather.borrow_and_update();
            if weather.silence && !self.hung {
                self.hung = true;
                self.link.hit(|hits| hits.calls_silenced += 1);
            }
            if !weather.silence && weather.ends > self.ends {
                self.link.hit(|hits| hits.calls_cut += u64::from(!self.hung));
                return Err(weather.lost());
            }
            if !weather.silence && Instant::now() >= arrival {
                return Ok(());
            }
            tokio::select! {
                biased;
                // It cannot close while this holds the link.
                _ = self.weather.changed() => {}
                () = sleep_until(arrival), if !weather.silence => {}
            }
        }
    }

    /// Hands over what the store answered, unless that is lost.
    pub(super) fn end<T>(self, reply: Result<T>) -> Result<T> {
        if !self.weather.borrow().lost_replies {
            return reply;
        }
        self.link.hit(|hits| hits.replies_lost += 1);
        let message = "the reply was lost: the outcome is unknown, repeat the call";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// An open watch's place on the connection. Dropping it leaves nothing behind.
pub(super) struct Place {
    link: Arc<Link>,
    weather: watch::Receiver<Weather>,
    ends: u64,
    id: u64,
}

impl Place {
    /// Opens a watch, if the connection still stands.
    pub(super) fn open(link: &Arc<Link>) -> Result<Self> {
        link.with(|state| {
            let weather = *state.weather.borrow();
            if weather.outage && !weather.silence {
                state.hits.calls_refused += 1;
                return Err(down());
            }
            state.opened += 1;
            state.open.insert(state.opened);
            let (link, ends, id) = (link.clone(), weather.ends, state.opened);
            Ok(Self { link, weather: state.weather.subscribe(), ends, id })
        })
    }

    /// The weather now, or why the watch is over.
    pub(super) fn look(&mut self) -> Result<Weather> {
        let weather = *self.weather.borrow_and_update();
        if !weather.silence && weather.ends > self.ends { Err(weather.lost()) } else { Ok(weather) }
    }

    /// Waits until the weather is another than at the last look.
    pub(super) async fn turned(&mut self) {
        if self.weather.changed().await.is_err() {
            pending::<()>().await; // never: the sender lives in the link that this holds
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.link.with(|state| state.open.remove(&self.id));
    }
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is down: try again when it is up")
}
