//! A log of the events in a test, to explain a failure.

use futures_util::StreamExt;
use registry_engine::{Registration, RegistrationStatus};
use registry_testkit::lag::Lag;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// A log of events that is printed if the test fails. Each event has its time and the lag so far, since lag may expire
/// leases on a real clock.
#[derive(Clone)]
pub(super) struct EventLog {
    start: Instant,
    lag: Lag,
    entries: Arc<Mutex<Vec<String>>>,
}

impl EventLog {
    pub(super) fn new(lag: Lag) -> Self {
        Self { start: Instant::now(), lag, entries: Arc::default() }
    }

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

    /// Records an event.
    pub(super) fn record(&self, what: impl fmt::Display) {
        let entry = format!("{:.3?}, lag {:.3?}: {what}", self.start.elapsed(), self.lag.total());
        self.entries.lock().unwrap().push(entry);
    }

    /// Prints the log if the test fails.
    pub(super) fn print_if_panicking(&self) {
        if std::thread::panicking() {
            eprintln!("{}", self.entries.lock().unwrap().join("\n"));
        }
    }
}
