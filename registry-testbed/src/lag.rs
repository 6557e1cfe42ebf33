//! Scheduling lag: how long a test and its servers were ready to run while the machine ran others.
//!
//! On a busy machine everything takes longer, and that is no fault of the code under test. A test with a
//! wall-clock bound states the lag that it [tolerates](tolerating), and its [deadlines](Deadline) are put off
//! by the lag that is measured, up to that. Own work is not lag, however long it takes: a slowdown of the code
//! under test fails its test on a busy machine as on a quiet one.

mod meter;

use self::meter::Meter;
use futures_util::FutureExt;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// How often a test is run at most: once, and again after each run that is invalid.
const RUNS: usize = 3;

/// How often the lag is sampled.
const INTERVAL: Duration = Duration::from_millis(50);

/// A file that gets a line for each invalid run, so that they can be counted over many tests.
const INVALID_RUNS: &str = "REGISTRY_TEST_INVALID_RUNS";

/// The lag since it was started, of this process and its children. Clones share it.
#[derive(Clone, Debug)]
pub struct Lag {
    meter: Arc<Mutex<Meter>>,
    tolerated: Duration,
    _sampler: Arc<mpsc::Sender<()>>,
}

impl Lag {
    /// Starts to measure, for a test that tolerates so much.
    pub fn start(tolerated: Duration) -> Self {
        let meter = Arc::new(Mutex::new(Meter::start()));
        let (handle, dropped) = mpsc::channel::<()>();
        let sampled = meter.clone();
        thread::spawn(move || {
            let meter = || sampled.lock().unwrap_or_else(PoisonError::into_inner);
            meter().leave_out_this_thread();
            let mut due = Instant::now() + INTERVAL;
            while dropped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                meter().sample(due.elapsed());
                due = Instant::now() + INTERVAL;
            }
        });
        Self { meter, tolerated, _sampler: Arc::new(handle) }
    }

    /// The lag so far.
    pub fn total(&self) -> Duration {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.sample(Duration::ZERO);
        meter.total()
    }

    /// A deadline for what begins now, and takes up to `limit` on a quiet machine.
    pub fn deadline(&self, limit: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit, before: self.total(), lag: self.clone() }
    }

    /// Waits for what takes up to `limit` on a quiet machine.
    ///
    /// # Errors
    ///
    /// If it takes longer, the lag aside.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.deadline(limit).timeout(future).await
    }
}

/// A deadline that is put off by the lag since it was set, up to what the test tolerates.
#[derive(Debug)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
    before: Duration,
    lag: Lag,
}

impl Deadline {
    /// Waits until `future` is ready.
    ///
    /// # Errors
    ///
    /// If it is not by the deadline.
    pub async fn timeout<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        loop {
            let end = self.end();
            match timeout_at(end, &mut future).await {
                Err(_) if self.end() > end => {}
                outcome => return outcome,
            }
        }
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

    fn end(&self) -> Instant {
        self.start + self.limit + self.lag()
    }

    /// How much it is put off.
    fn lag(&self) -> Duration {
        self.lag.total().saturating_sub(self.before).min(self.lag.tolerated)
    }
}

/// Runs a test on a runtime of its own. A run that fails is invalid if the lag was more than `tolerated`, and is
/// repeated: twice at most.
///
/// # Panics
///
/// If a valid run fails, or all runs are invalid.
pub fn tolerating(tolerated: Duration, test: impl AsyncFn(Lag)) {
    let mut lags = Vec::new();
    for _ in 0..RUNS {
        let lag = Lag::start(tolerated);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let run = AssertUnwindSafe(test(lag.clone())).catch_unwind();
        let Err(failure) = runtime.block_on(run) else { return };
        drop(runtime);
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

fn report_invalid(lag: Duration, tolerated: Duration) {
    let test = thread::current().name().unwrap_or("main").to_owned();
    let line =
        format!("invalid run: {test}: the lag was {lag:?}, and {tolerated:?} is tolerated\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os(INVALID_RUNS) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect(INVALID_RUNS);
    }
}
