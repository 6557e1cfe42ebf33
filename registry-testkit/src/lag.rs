//! Scheduling lag: how long a test and its servers were ready to run while the processors ran other processes.
//!
//! A busy machine slows a test down without a fault of the code under test, so the time bounds of tests account
//! for lag. There are two kinds of bounds:
//!
//! * "It takes at most this long": the test states the lag that it [tolerates](tolerating), and the measured lag
//!   extends its [deadlines](Lag::deadline) by at most that. The test's own work is not lag, so a slowdown of the
//!   code under test fails its test on a busy machine as well.
//! * "It happens eventually": [`timeout`] and [`deadline`] detect a hang. They tolerate four minutes of lag.

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

/// The maximum number of runs of a test: it is repeated after an invalid run.
const RUNS: usize = 3;

/// The interval between samples of the lag.
const INTERVAL: Duration = Duration::from_millis(50);

/// The tolerated lag of a bound that only detects a hang. It is limited, since busy servers or other children of the
/// test increase the lag even while the awaited event never happens.
const MAX_LAG: Duration = Duration::from_secs(240);

/// The variable with the path of a file that gets a line for each invalid run, to count them over many tests.
const INVALID_RUNS: &str = "REGISTRY_TEST_INVALID_RUNS";

/// The lag of this process and its children since the first use.
static METER: LazyLock<Mutex<Meter>> = LazyLock::new(|| {
    thread::spawn(sample_periodically);
    Mutex::new(Meter::start())
});

/// A measurement of the lag of this process and its children since [`Lag::start`].
#[derive(Clone, Debug)]
pub struct Lag {
    before: Measured,
    tolerated: Duration,
}

impl Lag {
    /// Starts to measure, for a test that tolerates this much lag.
    pub fn start(tolerated: Duration) -> Self {
        Self { before: measure(), tolerated }
    }

    /// Returns the lag so far.
    pub fn total(&self) -> Duration {
        measure().since(self.before)
    }

    /// Creates a deadline for an operation that starts now and takes at most `limit` on an idle machine.
    pub fn deadline(&self, limit: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit, before: measure(), tolerated: self.tolerated }
    }

    /// Waits for `future`, which takes at most `limit` on an idle machine.
    ///
    /// # Errors
    ///
    /// `Elapsed` if it takes longer than `limit` and the lag.
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        self.deadline(limit).into_timeout(future)
    }
}

/// A deadline that is extended by the lag since its creation, up to the tolerated lag.
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
    /// `Elapsed` if the deadline passes first.
    pub fn timeout<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        self.clone().into_timeout(future)
    }

    /// Blocks until a message arrives.
    ///
    /// # Errors
    ///
    /// `Timeout` if the deadline passes first, `Disconnected` if the sender is dropped.
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

    /// Asserts that the deadline has not passed.
    ///
    /// # Panics
    ///
    /// Panics if the deadline has passed.
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
        // Boxed, since nested async functions would otherwise each hold the whole future.
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

    /// Returns by how much the lag extends the deadline.
    fn lag(&self) -> Duration {
        measure().since(self.before).min(self.tolerated)
    }
}

/// Waits for an event that must happen eventually, like [`tokio::time::timeout`]. The lag since the start of the
/// wait extends the limit by up to four minutes.
///
/// # Errors
///
/// `Elapsed` if `future` is not ready after `limit` and the lag.
pub fn timeout<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
    deadline(limit).into_timeout(future)
}

/// Creates a deadline for an event that must happen eventually, for a wait that blocks or has several parts. It
/// tolerates as much lag as [`timeout`].
pub fn deadline(limit: Duration) -> Deadline {
    // The last sample is precise enough to detect a hang, and needs no new measurement.
    let before = meter().measured();
    Deadline { start: Instant::now(), limit, before, tolerated: MAX_LAG }
}

/// Runs a test on its own runtime. A failed run is invalid if the lag exceeded `tolerated`. An invalid run is
/// repeated, at most twice.
///
/// # Panics
///
/// Panics if a valid run fails, or if all runs are invalid.
pub fn tolerating(tolerated: Duration, test: impl AsyncFn(Lag)) {
    tolerating_blocking(tolerated, |lag| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(AssertUnwindSafe(test(lag)).catch_unwind());
        drop(runtime); // before the panic resumes, so that remaining tasks can clean up
        outcome.unwrap_or_else(|failure| resume_unwind(failure));
    });
}

/// Like [`tolerating`], for a test that needs no runtime or creates its own.
///
/// # Panics
///
/// Panics if a valid run fails, or if all runs are invalid.
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
            eprintln!("the lag was {total:?}, the test tolerates {tolerated:?}");
            resume_unwind(failure);
        }
        report_invalid(total, tolerated);
        lags.push(total);
    }
    panic!(
        "all {RUNS} runs were invalid: the lags were {lags:?}, the test tolerates {tolerated:?}"
    );
}

/// Takes a sample, and returns the total up to now.
fn measure() -> Measured {
    let mut meter = meter();
    meter.sample(Duration::ZERO);
    meter.measured()
}

fn meter() -> MutexGuard<'static, Meter> {
    METER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes samples as long as the process lives. The wait of a thread is lost when the thread ends, so a
/// sample at the end of a test would miss it.
fn sample_periodically() {
    meter().exclude_this_thread();
    loop {
        let due = Instant::now() + INTERVAL;
        thread::park_timeout(INTERVAL);
        meter().sample(due.elapsed());
    }
}

fn report_invalid(lag: Duration, tolerated: Duration) {
    // With the usual harness, the thread has the name of the test.
    let thread = || thread::current().name().unwrap_or("main").to_owned();
    let test = env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| thread());
    let binary = env::var("NEXTEST_BINARY_ID").map(|binary| binary + " ").unwrap_or_default();
    let line = format!(
        "invalid run: {binary}{test}: the lag was {lag:?}, the test tolerates {tolerated:?}\n"
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

    /// Repeats a failing test. Returns its panic message, the number of runs, and the number of invalid runs.
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
    fn failed_run_is_repeated_only_after_too_much_lag() {
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
