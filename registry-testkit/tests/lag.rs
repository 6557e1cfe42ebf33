//! Scheduling lag extends the time bounds of a test, and nothing else does.
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::{Lag, deadline, timeout, tolerating};
use std::future::pending;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Busy loops, more than there are processors. They are not children of this process, so their wait is not its lag.
struct Busy(Vec<String>);

impl Busy {
    fn start() -> Self {
        // `timeout` ends them if this process is killed.
        let start = "timeout 30 sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!";
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        let pid = |_| Command::new("sh").args(["-c", start]).output().unwrap().stdout;
        Self((0..count).map(pid).map(|pid| String::from_utf8(pid).unwrap()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for pid in &self.0 {
            Command::new("kill").arg(pid.trim()).status().unwrap();
        }
    }
}

/// Runs one test at a time, since the waits of all threads of this process count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the processor busy for `duration` of wall time.
fn work(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        black_box(());
    }
}

#[test]
fn own_work_is_not_lag() {
    let _alone = alone();
    let lag = Lag::start(SECOND);
    let cpu = cpu_time();
    work(SECOND);
    // On a busy machine the rest of the second is lag.
    let worked = cpu_time().saturating_sub(cpu);
    assert!(
        lag.total() <= SECOND.saturating_sub(worked) + SECOND / 4,
        "a lag of {:?} with {worked:?} of work",
        lag.total()
    );
}

/// Works until this thread has used `duration` of processor time.
fn work_of(duration: Duration) {
    let start = cpu_time();
    while cpu_time().saturating_sub(start) < duration {
        work(SECOND / 1000);
    }
}

/// Returns the processor time that this thread has used.
fn cpu_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn time_of_other_processes_is_lag_and_extends_deadlines() {
    let _alone = alone();
    let _busy = Busy::start();
    let lag = Lag::start(60 * SECOND);
    let deadline = lag.deadline(SECOND / 15);
    work_of(SECOND / 20);
    assert!(lag.total() > SECOND / 50, "{:?}", lag.total());
    deadline.assert_met();
}

#[test]
fn work_that_takes_twice_as_long_misses_its_deadline_on_a_busy_machine() {
    let _alone = alone();
    let _busy = Busy::start();
    let lag = Lag::start(60 * SECOND);
    let deadline = lag.deadline(SECOND / 15);
    work_of(SECOND * 2 / 15);
    let met = catch_unwind(AssertUnwindSafe(|| deadline.assert_met()));
    assert!(met.is_err(), "with a lag of {:?}", lag.total());
}

#[test]
fn timeout_ends_at_its_limit() {
    let _alone = alone();
    tolerating(SECOND, async |lag| {
        let (start, deadline) = (Instant::now(), lag.deadline(SECOND / 2));
        assert!(lag.timeout(SECOND / 5, pending::<()>()).await.is_err());
        assert!(start.elapsed() >= SECOND / 5);
        deadline.assert_met();
        lag.timeout(SECOND, sleep(SECOND / 100)).await.unwrap();
    });
}

/// Prevents a bug: the bounds that detect hangs ignored the lag, so a busy machine failed tests in which nothing hung.
#[test]
fn hang_is_detected_and_a_wait_for_a_processor_is_not_a_hang() {
    let _alone = alone();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hangs = timeout(SECOND / 5, pending::<()>());
    runtime().block_on(async { hangs.await.unwrap_err() });

    let _busy = Busy::start();
    let (limit, hang) = (SECOND / 10, deadline(SECOND / 10));
    let thread = std::thread::spawn(|| work_of(SECOND / 20));
    let worked = async {
        while !thread.is_finished() {
            sleep(SECOND / 1000).await;
        }
    };
    runtime().block_on(async { timeout(limit, worked).await.unwrap() });
    assert!(!hang.has_passed());
    hang.assert_met();

    let (sender, messages) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work_of(SECOND / 20);
        sender.send(()).unwrap();
        sender
    });
    deadline(limit).receive(&messages).unwrap();
    let _sender = thread.join().unwrap();
    assert_eq!(deadline(limit).receive(&messages), Err(mpsc::RecvTimeoutError::Timeout));
}
