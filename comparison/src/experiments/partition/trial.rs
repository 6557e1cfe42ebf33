//! One partition: what was acknowledged on both sides of it, and what callers saw.

use super::clients::{Client, Means, Sides};
use super::sites::{Site, System};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How many live with the others, all the time.
pub(super) const LIVE: usize = 10;

/// How many begin to live with the one that is cut off, a second later.
pub(super) const LATE: usize = 5;

/// How long all is well at first, and how long after the end it is looked at.
const BEFORE: Duration = Duration::from_secs(1);
pub(super) const AFTER: Duration = Duration::from_secs(5);

/// How long who writes waits between two writes, on each side.
const EVERY: Duration = Duration::from_millis(10);

/// How long the other side is without an acknowledgement at least: a second passes until one takes over.
const NOTICED: Duration = Duration::from_millis(500);

/// How long a client waits for a write, with all that it tries, before it makes another one.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// How often what callers see is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long all may take to be listed, and to be asked for in the end.
const LISTED_WITHIN: Duration = Duration::from_secs(20);

/// What one means came to in one partition.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    /// Writes that began after the cut, acknowledged by the one that was cut off. None where nobody writes to it.
    pub(super) alone: Option<usize>,
    /// Of these and of those acknowledged before the cut, how many are gone in the end.
    pub(super) lost: usize,
    /// Of the lost, how many were acknowledged before the cut.
    pub(super) lost_from_before: usize,
    /// Writes acknowledged to those on the other side, in all.
    pub(super) others: usize,
    /// The longest time without an acknowledgement on the other side, in seconds.
    pub(super) silence: f64,
    /// Of those who live with the others, how many were at some time not listed there.
    pub(super) vanished: usize,
    /// The longest time that one of them was not, in seconds.
    pub(super) absence: f64,
    /// Of those who began with the one that was cut off, how many are listed in the end. None where there are none.
    pub(super) late: Option<usize>,
    /// How many of the living are listed on the other side: seconds after the beginning, and how many.
    pub(super) listed: Vec<(f64, usize)>,
}

/// When something happened.
struct Clock {
    start: Instant,
    cut: Cell<Option<Instant>>,
    healed: Cell<Option<Instant>>,
    is_healed: Arc<AtomicBool>,
}

/// What is known of one means.
struct Stand {
    sides: Sides,
    seen: RefCell<BTreeSet<String>>,
    alone: RefCell<Vec<Write>>,
    others: RefCell<Vec<Write>>,
    looks: RefCell<Vec<(Instant, BTreeSet<String>)>>,
}

/// A write that was acknowledged.
struct Write {
    begun: Instant,
    at: Instant,
    id: String,
}

/// Cuts off the one that takes writes for `length`, and looks at all means over it at once.
pub(super) async fn once(
    system: System,
    at: &Where,
    length: Duration,
) -> Result<BTreeMap<Means, Run>> {
    let mut site = Site::start(system, at).await?;
    let one = site.first().await?;
    let is_healed = Arc::new(AtomicBool::new(false));
    let mut stands = BTreeMap::new();
    for means in Means::over(system) {
        let sides = Sides::open(*means, &site, one, &is_healed).await?;
        stands.insert(*means, Rc::new(Stand::new(sides)));
    }
    let living = stands
        .values()
        .flat_map(|stand| (0..LIVE).map(async |n| stand.sides.others.keep(&live(n)).await));
    let following = stands.values().map(async |stand| stand.sides.others.follow(&stand.seen).await);
    let acts = async {
        let all: BTreeSet<String> = (0..LIVE).map(live).collect();
        for (means, stand) in &stands {
            let listed = async {
                while !stand.seen.borrow().is_superset(&all) {
                    sleep(LOOK).await;
                }
            };
            let listed = timeout(LISTED_WITHIN, listed).await;
            listed.with_context(|| format!("{}: not all are listed at first", means.name()))?;
        }
        let clock = Clock::new(is_healed);
        let mut running = Vec::new();
        for stand in stands.values() {
            running.push(Box::pin(stand.run(&clock)));
        }
        let director = async {
            sleep_until(clock.start + BEFORE).await;
            clock.cut.set(Some(Instant::now()));
            site.cut_off(one).await?;
            sleep_until(clock.start + BEFORE + length).await;
            clock.heal();
            site.heal(one).await?;
            sleep(AFTER).await;
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = director => outcome?,
            outcome = try_join_all(running) => drop(outcome?),
        }
        let runs = stands.iter().map(async |(means, stand)| {
            let run = stand.judge(&clock).await.with_context(|| means.name())?;
            anyhow::Ok((*means, run))
        });
        anyhow::Ok(try_join_all(runs).await?.into_iter().collect())
    };
    tokio::select! {
        outcome = acts => outcome,
        outcome = try_join_all(living) => outcome.map(|_| unreachable!("they live for ever")),
        _ = join_all(following) => unreachable!("they follow for ever"),
    }
}

impl Clock {
    fn new(is_healed: Arc<AtomicBool>) -> Self {
        let (cut, healed) = (Cell::default(), Cell::default());
        Self { start: Instant::now(), cut, healed, is_healed }
    }

    fn heal(&self) {
        self.healed.set(Some(Instant::now()));
        self.is_healed.store(true, Ordering::Relaxed);
    }
}

impl Stand {
    fn new(sides: Sides) -> Self {
        Self {
            sides,
            seen: RefCell::default(),
            alone: RefCell::default(),
            others: RefCell::default(),
            looks: RefCell::default(),
        }
    }

    /// All that happens, for ever: both sides write, some begin to live, and callers look.
    async fn run(&self, clock: &Clock) -> Result<()> {
        let alone = async {
            let Some(client) = &self.sides.alone else { return };
            write(&**client, "alone", &self.alone, || clock.healed.get().is_some()).await;
        };
        let others = write(&*self.sides.others, "others", &self.others, || false);
        let late = (0..LATE).map(async |n| {
            let Some(client) = &self.sides.alone else { return Ok(()) };
            while clock.cut.get().is_none_or(|cut| cut.elapsed() < Duration::from_secs(1)) {
                sleep(LOOK).await;
            }
            client.keep(&late(n)).await.map(drop)
        });
        let looking = async {
            loop {
                let is_alive = |id: &&String| id.starts_with("live-") || id.starts_with("late-");
                let living = self.seen.borrow().iter().filter(is_alive).cloned().collect();
                self.looks.borrow_mut().push((Instant::now(), living));
                sleep(LOOK).await;
            }
        };
        let writing = async {
            tokio::join!(alone, others, looking);
            Ok(())
        };
        tokio::try_join!(writing, try_join_all(late)).map(drop)
    }

    /// What it came to.
    async fn judge(&self, clock: &Clock) -> Result<Run> {
        let left = async {
            loop {
                if let Ok(listed) = self.sides.others.listed().await {
                    return listed;
                }
                sleep(LOOK).await;
            }
        };
        let left = timeout(LISTED_WITHIN, left).await.context("nobody is listed in the end")?;
        let cut = clock.cut.get().context("nothing was cut")?;
        let healed = clock.healed.get().context("nothing was healed")?;
        let (alone, others) = (self.alone.borrow(), self.others.borrow());
        let is_early = |write: &Write| write.at < cut;
        ensure!(others.iter().any(is_early), "invalid: nothing was written before the cut");
        let silence = silence(&others, cut, healed);
        ensure!(silence > NOTICED, "invalid: the cut was not noticed on the other side");
        let has_alone = self.sides.alone.is_some();
        let never = has_alone && !alone.iter().any(is_early);
        ensure!(!never, "invalid: nothing was written beside the one before it was cut off");
        let lost = || alone.iter().chain(&*others).filter(|write| !left.contains(&write.id));
        let (vanished, absence) = absences(&self.looks.borrow());
        // What callers saw last: nobody renews any more.
        let looks = self.looks.borrow();
        let (_, at_the_end) = looks.last().context("nobody looked")?;
        Ok(Run {
            alone: has_alone.then(|| alone.iter().filter(|write| write.begun >= cut).count()),
            lost: lost().count(),
            lost_from_before: lost().filter(|write| is_early(write)).count(),
            others: others.len(),
            silence: silence.as_secs_f64(),
            vanished,
            absence: absence.as_secs_f64(),
            late: has_alone.then(|| (0..LATE).filter(|n| at_the_end.contains(&late(*n))).count()),
            listed: steps(clock.start, &looks),
        })
    }
}

/// Writes again and again, each time another one, and notes what is acknowledged.
async fn write(
    client: &dyn Client,
    name: &str,
    acknowledged: &RefCell<Vec<Write>>,
    is_over: impl Fn() -> bool,
) {
    for n in 0u32.. {
        if is_over() {
            return;
        }
        let (id, begun) = (format!("{name}-{n}"), Instant::now());
        // One that failed may have been made all the same: nothing was promised of it.
        if let Ok(Ok(())) = timeout(WRITTEN_WITHIN, client.register(&id)).await {
            acknowledged.borrow_mut().push(Write { begun, at: Instant::now(), id });
        }
        sleep(EVERY).await;
    }
}

/// The longest time from one acknowledgement to the next, between the cut and its end.
fn silence(acknowledged: &[Write], cut: Instant, healed: Instant) -> Duration {
    let times = acknowledged.iter().map(|write| write.at).filter(|at| (cut..healed).contains(at));
    let (mut last, mut longest) = (cut, Duration::ZERO);
    for at in times.chain([healed]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// How many are listed, where that changes: seconds after the beginning, and how many.
fn steps(start: Instant, looks: &[(Instant, BTreeSet<String>)]) -> Vec<(f64, usize)> {
    let looks = looks.iter().map(|(at, living)| ((*at - start).as_secs_f64(), living.len()));
    let (mut steps, mut last) = (Vec::<(f64, usize)>::new(), None);
    for look in looks {
        if steps.last().is_none_or(|(_, listed)| *listed != look.1) {
            steps.extend(last); // up to here it was as before
            steps.push(look);
        }
        last = Some(look);
    }
    steps.extend(last);
    steps
}

/// How many of those who live with the others were missing at some time, and the longest time that one was.
fn absences(looks: &[(Instant, BTreeSet<String>)]) -> (usize, Duration) {
    let (mut vanished, mut longest) = (0, Duration::ZERO);
    for n in 0..LIVE {
        let id = live(n);
        let mut away = None;
        let mut absence = Duration::ZERO;
        for (at, listed) in looks {
            if listed.contains(&id) {
                away = None;
            } else {
                absence = absence.max(*at - *away.get_or_insert(*at) + LOOK);
            }
        }
        vanished += usize::from(absence > Duration::ZERO);
        longest = longest.max(absence);
    }
    (vanished, longest)
}

fn live(n: usize) -> String {
    format!("live-{n}")
}

fn late(n: usize) -> String {
    format!("late-{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_from_one_acknowledgement_to_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |ms| Write { begun: at(ms), at: at(ms), id: String::new() };
        let acknowledged = [10, 120, 130, 900].map(write);
        assert_eq!(silence(&acknowledged, at(100), at(1000)), Duration::from_millis(770));
        assert_eq!(silence(&acknowledged[..1], at(100), at(1000)), Duration::from_millis(900));
    }

    #[test]
    fn a_line_has_points_where_it_turns() {
        let start = Instant::now();
        let ids = |count| (0..count).map(live).collect::<BTreeSet<_>>();
        let looks: Vec<_> =
            (0..).map(|n| start + LOOK * n).zip([3, 3, 3, 5, 5, 5].map(ids)).collect();
        let steps = steps(start, &looks);
        let expected = [(0.0, 3), (0.1, 3), (0.15, 5), (0.25, 5)];
        assert_eq!(steps.len(), expected.len(), "{steps:?}");
        for ((at, listed), (then, expected)) in steps.iter().zip(expected) {
            assert!((at - then).abs() < 1e-9 && *listed == expected, "{steps:?}");
        }
    }

    #[test]
    fn who_is_not_listed_is_away_until_it_is() {
        let start = Instant::now();
        let all: BTreeSet<String> = (0..LIVE).map(live).collect();
        let mut fewer = all.clone();
        fewer.remove(&live(3));
        let looks = [all.clone(), fewer.clone(), fewer, all];
        let looks: Vec<_> = (0..).map(|n| start + LOOK * n).zip(looks).collect();
        assert_eq!(absences(&looks), (1, LOOK * 2));
        assert_eq!(absences(&looks[..1]), (0, Duration::ZERO));
    }
}
