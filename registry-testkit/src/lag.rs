//! Scheduling lag: how long a test and its servers were ready to run while the machine ran others.
//!
//! On a busy machine everything takes longer, and that is no fault of the code under test. So no bound of a
//! test is a plain time. There are two kinds:
//!
//! * "It takes at most so long": the test states the lag that it [tolerates](tolerating), and its
//!   [deadlines](Lag::deadline) are put off by the lag that is measured, up to that. Own work is not lag, however
//!   long it takes: a slowdown of the code under test fails its test on a busy machine as on a quiet one.
//! * "It happens some time": [`timeout`] and [`deadline`] find out what hangs. They tolerate four minutes of lag.

mod meter;

use self::meter::{Measured, Meter};
use futures_util::FutureExt;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// How often a test is run at most: once, and again after each run that is invalid.
const RUNS: usize = 3;

/// How often the lag is sampled.
const INTERVAL: Duration = Duration::from_millis(50);

/// The lag that is tolerated by who only finds out what hangs. It has an end, since the lag grows for as long as servers or
/// other children of the test are busy, also while what is awaited never happens.
const MAX_LAG: Duration = Duration::from_secs(240);

/// A file that gets a line for each invalid run, so that they can be counted over many tests.
const INVALID_RUNS: &str = "REGISTRY_TEST_INVALID_RUNS";

/// The lag of this process and its children, from the first use on.
static METER: LazyLock<Mutex<Meter>> = LazyLock::new(|| {
    thread::spawn(sample_periodically);
    Mutex::new(Meter::start())
});

/// The lag since it was started, of this process and its children.
#[derive(Clone, Debug)]
pub struct Lag {
    before: Measured,
    tolerated: Duration,
}

impl Lag {
    /// Starts to measure, for a test that tolerates so much.
    pub fn start(tolerated: Duration) -> Self {
        Self { before: measure(), tolerated }
    }

    /// The lag so far.
    pub fn total(&self) -> Duration {
        measure().since(self.before)
    }

    /// A deadline for what begins now, and takes up to `limit` on a quiet machine.
    pub fn deadline(&self, limit: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit, before: measure(), tolerated: self.tolerated }
    }

    /// Waits for what takes up to `limit` on a quiet machine.
    ///
    /// # Errors
    ///
    /// If it takes longer, the lag aside.
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        self.deadline(limit).into_timeout(future)
    }
}

/// A deadline that is put off by the lag since it was set, up to what the test tolerates.
#[derive(Clone, Debug)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
    before: Measured,
    tolerated: Duration,
}

impl Deadline {
    /// Waits until `future` is ready.
    ///
    /// # Errors
    ///
    /// If it is not by the deadline.
    pub fn timeout<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        self.clone().into_timeout(future)
    }

    /// Blocks until there is a message.
    ///
    /// # Errors
    ///
    /// If there is none by the deadline, or the sender is gone.
    pub fn receive<T>(&self, messages: &mpsc::Receiver<T>) -> Result<T, RecvTimeoutError> {
        loop {
            let left = self.end().saturating_duration_since(Instant::now());
            match messages.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) if !self.has_passed() => {}
                outcome => return outcome,
            }
        }
    }

    /// Returns whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        Instant::now() > self.start + self.limit && Instant::now() > self.end()
    }

    /// # Panics
    ///
    /// If the deadline has passed.
    #[track_caller]
    pub fn assert_met(&self) {
        let Self { start, limit, .. } = self;
        let (took, lag) = (start.elapsed(), self.lag());
        assert!(took <= *limit + lag, "it took {took:?}, more than {limit:?} and a lag of {lag:?}");
    }

    fn into_timeout<F: Future>(
        self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        // In a box, since an async function that waits for another holds it several times over.
        let mut future = Box::pin(future);
        async move {
            let mut end = self.start + self.limit;
            loop {
                match timeout_at(end, &mut future).await {
                    Err(_) if self.end() > end => end = self.end(),
                    outcome => return outcome,
                }
            }
        }
    }

    fn end(&self) -> Instant {
        self.start + self.limit + self.lag()
    }

    /// How much it is put off.
    fn lag(&self) -> Duration {
        measure().since(self.before).min(self.tolerated)
    }
}

/// Waits for what must happen some time, as [`tokio::time::timeout`] does. The limit is put off by the lag since
/// the wait began, up to four minutes.
///
/// # Errors
///
/// If `future` is not ready after `limit` and the lag.
pub fn timeout<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
    deadline(limit).into_timeout(future)
}

/// A deadline for what must happen some time, for a wait that blocks or has several parts. It tolerates as much lag as
/// that of [`timeout`].
pub fn deadline(limit: Duration) -> Deadline {
    // The last sample is good enough for a bound that only finds out what hangs, and costs nothing.
    let before = meter().measured();
    Deadline { start: Instant::now(), limit, before, tolerated: MAX_LAG }
}

/// Runs a test on a runtime of its own. A run that fails is invalid if the lag was more than `tolerated`, and is
/// repeated: twice at most.
///
/// # Panics
///
/// If a valid run fails, or all runs are invalid.
pub fn tolerating(tolerated: Duration, test: impl AsyncFn(Lag)) {
    tolerating_blocking(tolerated, |lag| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(AssertUnwindSafe(test(lag)).catch_unwind());
        drop(runtime); // not while it panics, since tasks that are left do their cleanup
        outcome.unwrap_or_else(|failure| resume_unwind(failure));
    });
}

/// Does the same with a test that makes its own runtime, if it needs one.
///
/// # Panics
///
/// If a valid run fails, or all runs are invalid.
pub fn tolerating_blocking(tolerated: Duration, test: impl Fn(Lag)) {
    repeating(tolerated, test, report_invalid);
}

fn repeating(tolerated: Duration, test: impl Fn(Lag), report_invalid: impl Fn(Duration, Duration)) {
    let mut lags = Vec::new();
    for _ in 0..RUNS {
        let lag = Lag::start(tolerated);
        let run = catch_unwind(AssertUnwindSafe(|| test(lag.clone())));
        let Err(failure) = run else { return };
        let total = lag.total();
        if total <= tolerated {
            eprintln!("the lag was {total:?}, and {tolerated:?} is tolerated");
            resume_unwind(failure);
        }
        report_invalid(total, tolerated);
        lags.push(total);
    }
    panic!("all {RUNS} runs were invalid: the lags were {lags:?}, and {tolerated:?} is tolerated");
}

/// All that was measured up to now.
fn measure() -> Measured {
    let mut meter = meter();
    meter.sample(Duration::ZERO);
    meter.measured()
}

fn meter() -> MutexGuard<'static, Meter> {
    METER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Samples as long as the process lives: what threads have waited is lost when they end.
fn sample_periodically() {
    meter().leave_out_this_thread();
    loop {
        let due = Instant::now() + INTERVAL;
        thread::park_timeout(INTERVAL);
        meter().sample(due.elapsed());
    }
}

fn report_invalid(lag: Duration, tolerated: Duration) {
    // A test without the usual harness runs in a thread without its name.
    let thread = || thread::current().name().unwrap_or("main").to_owned();
    let test = env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| thread());
    let binary = env::var("NEXTEST_BINARY_ID").map(|binary| binary + " ").unwrap_or_default();
    let line = format!(
        "invalid run: {binary}{test}: the lag was {lag:?}, and {tolerated:?} is tolerated\n"
    );
    eprint!("{line}");
    if let Some(path) = env::var_os(INVALID_RUNS) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect(INVALID_RUNS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Counts the runs of a test, and how many of them are reported as invalid.
    fn runs(tolerated: Duration, test: impl Fn(&Lag)) -> (String, usize, usize) {
        let (runs, invalid) = (Cell::new(0), Cell::new(0));
        let counted = |lag: Lag| {
            runs.set(runs.get() + 1);
            test(&lag);
        };
        let report = |_, _| invalid.set(invalid.get() + 1);
        let repeated = AssertUnwindSafe(|| repeating(tolerated, counted, report));
        let failure = catch_unwind(repeated).unwrap_err();
        let message = failure.downcast_ref::<&str>().map(ToString::to_string);
        let message = message.or_else(|| failure.downcast_ref::<String>().cloned());
        (message.unwrap(), runs.get(), invalid.get())
    }

    #[test]
    fn a_run_that_fails_is_repeated_only_if_there_was_too_much_lag() {
        let minute = Duration::from_secs(60);
        assert_eq!(runs(minute, |_| panic!("planted")), ("planted".to_owned(), 1, 0));

        let (message, runs, invalid) = runs(Duration::ZERO, |lag| {
            while lag.total().is_zero() {
                thread::yield_now();
            }
            panic!("planted");
        });
        assert!(message.starts_with("all 3 runs were invalid"), "{message}");
        assert_eq!((runs, invalid), (3, 3));
    }
}
