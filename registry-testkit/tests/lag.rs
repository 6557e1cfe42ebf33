//! Bounds grow with what the machine takes from a test, and with nothing else.
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

/// Loops beside a test, more than there are processors: no children of this process, whose lag is its own.
struct Busy(Vec<String>);

impl Busy {
    fn start() -> Self {
        // They end by themselves, should this process be killed.
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

/// One test at a time, since all threads of this process count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works for so long, without a pause.
fn work(long: Duration) {
    let start = Instant::now();
    while start.elapsed() < long {
        black_box(());
    }
}

#[test]
fn own_work_is_no_lag() {
    let _alone = alone();
    let lag = Lag::start(SECOND);
    let cpu = cpu_time();
    work(SECOND);
    // On a busy machine the rest of the second is lag.
    let worked = cpu_time().saturating_sub(cpu);
    assert!(
        lag.total() <= SECOND.saturating_sub(worked) + SECOND / 4,
        "{:?} beside {worked:?}",
        lag.total()
    );
}

/// Works until this thread has had the processor for so long.
fn work_alone(long: Duration) {
    let start = cpu_time();
    while cpu_time().saturating_sub(start) < long {
        work(SECOND / 1000);
    }
}

/// The processor time that this thread has used.
fn cpu_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn time_that_others_have_the_processor_is_lag_and_puts_deadlines_off() {
    let _alone = alone();
    let _busy = Busy::start();
    let lag = Lag::start(60 * SECOND);
    let deadline = lag.deadline(SECOND / 15);
    work_alone(SECOND / 20);
    assert!(lag.total() > SECOND / 50, "{:?}", lag.total());
    deadline.assert_met();
}

#[test]
fn work_that_takes_twice_as_long_misses_its_deadline_beside_others_too() {
    let _alone = alone();
    let _busy = Busy::start();
    let lag = Lag::start(60 * SECOND);
    let deadline = lag.deadline(SECOND / 15);
    work_alone(SECOND * 2 / 15);
    let met = catch_unwind(AssertUnwindSafe(|| deadline.assert_met()));
    assert!(met.is_err(), "with a lag of {:?}", lag.total());
}

#[test]
fn a_wait_ends_at_its_bound() {
    let _alone = alone();
    tolerating(SECOND, async |lag| {
        let (start, deadline) = (Instant::now(), lag.deadline(SECOND / 2));
        assert!(lag.timeout(SECOND / 5, pending::<()>()).await.is_err());
        assert!(start.elapsed() >= SECOND / 5);
        deadline.assert_met();
        lag.timeout(SECOND, sleep(SECOND / 100)).await.unwrap();
    });
}

/// A bound on what must happen some time was a plain time, so that a busy machine failed tests in which nothing hung.
#[test]
fn a_hang_is_found_and_what_is_slow_for_lack_of_a_processor_is_none() {
    let _alone = alone();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hangs = timeout(SECOND / 5, pending::<()>());
    runtime().block_on(async { hangs.await.unwrap_err() });

    let _busy = Busy::start();
    let (limit, hang) = (SECOND / 10, deadline(SECOND / 10));
    let thread = std::thread::spawn(|| work_alone(SECOND / 20));
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
        work_alone(SECOND / 20);
        sender.send(()).unwrap();
        sender
    });
    deadline(limit).receive(&messages).unwrap();
    let _sender = thread.join().unwrap();
    assert_eq!(deadline(limit).receive(&messages), Err(mpsc::RecvTimeoutError::Timeout));
}
