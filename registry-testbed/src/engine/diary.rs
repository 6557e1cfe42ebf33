//! What happened when, for whoever reads of a failure.

use futures_util::StreamExt;
use registry_engine::{Registration, RegistrationStatus};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a process looks at the clock, and how late it may be without a word.
const PULSE: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_millis(400);

/// The states of registrations, each with its time. It is printed if the trial fails.
#[derive(Clone)]
pub(super) struct Diary {
    start: Instant,
    entries: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    /// Notes all states of `owner` from now on.
    pub(super) fn follow(&self, owner: &Registration) {
        let (id, mut states, diary) =
            (owner.instance().id().clone(), owner.statuses(), self.clone());
        tokio::spawn(async move {
            while let Some(state) = states.next().await {
                match state {
                    RegistrationStatus::Retrying { why, .. } => {
                        diary.note(format_args!("{id} is retrying: {}", why.chain()));
                    }
                    state => diary.note(format_args!("{id} is {state:?}")),
                }
            }
        });
    }

    /// Notes when this process stood still, which costs leases on a real clock and proves nothing.
    pub(super) fn take_the_pulse(&self) {
        let diary = self.clone();
        tokio::spawn(async move {
            loop {
                let due = Instant::now() + PULSE;
                sleep_until(due).await;
                if due.elapsed() > LATE {
                    diary.note(format_args!("this process stood still for {:?}", due.elapsed()));
                }
            }
        });
    }

    /// Notes what happens now.
    pub(super) fn note(&self, what: impl fmt::Display) {
        let entry = format!("{:.3?}: {what}", self.start.elapsed());
        self.entries.lock().unwrap().push(entry);
    }

    /// Prints it if the trial fails.
    pub(super) fn tell(&self) {
        if std::thread::panicking() {
            eprintln!("{}", self.entries.lock().unwrap().join("\n"));
        }
    }
}

impl Default for Diary {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }
}
