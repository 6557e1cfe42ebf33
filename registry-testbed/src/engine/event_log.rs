//! A timeline of what happened in a test, for the reader of a failure.

use futures_util::StreamExt;
use registry_engine::{Registration, RegistrationStatus};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the scheduling lag is sampled, and the lag that is worth a line.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_millis(400);

/// Events, each with its time. It is printed if the test fails.
#[derive(Clone)]
pub(super) struct EventLog {
    start: Instant,
    entries: Arc<Mutex<Vec<String>>>,
}

impl EventLog {
    /// Records all states of `owner` from now on.
    pub(super) fn follow(&self, owner: &Registration) {
        let (id, mut states, log) = (owner.instance().id().clone(), owner.statuses(), self.clone());
        tokio::spawn(async move {
            while let Some(state) = states.next().await {
                match state {
                    RegistrationStatus::Retrying { why, .. } => {
                        log.record(format_args!("{id} is retrying: {}", why.chain()));
                    }
                    state => log.record(format_args!("{id} is {state:?}")),
                }
            }
        });
    }

    /// Records when this process was not scheduled, which costs leases on a real clock.
    pub(super) fn sample_lag(&self) {
        let log = self.clone();
        tokio::spawn(async move {
            loop {
                let due = Instant::now() + SAMPLE_INTERVAL;
                sleep_until(due).await;
                if due.elapsed() > LATE {
                    log.record(format_args!(
                        "this process was not scheduled for {:?}",
                        due.elapsed()
                    ));
                }
            }
        });
    }

    /// Records an event.
    pub(super) fn record(&self, what: impl fmt::Display) {
        let entry = format!("{:.3?}: {what}", self.start.elapsed());
        self.entries.lock().unwrap().push(entry);
    }

    /// Prints the log if the test fails.
    pub(super) fn print_if_panicking(&self) {
        if std::thread::panicking() {
            eprintln!("{}", self.entries.lock().unwrap().join("\n"));
        }
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }
}
