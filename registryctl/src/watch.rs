//! `watch`: prints every change to a service.

use crate::output::{Output, Shown, note};
use crate::session::Session;
use crate::signals::{STOP, Signals};
use crate::{Failure, Outcome};
use futures_util::StreamExt;
use serde::Serialize;
use service_registry::store::{
    Backoff, Batch, Change, Cursor, DeleteReason, FollowEvent, FollowOptions, Revision, Snapshot,
    follow,
};
use service_registry::{Error, ErrorKind, InstanceId, ServiceName};
use std::pin::pin;
use std::process::ExitCode;

/// Print the instances of a service, then every change to them, until Ctrl-C.
///
/// It reports an outage of the registry, and resumes after it.
/// With --json each line is an object with one of these values of `type`:
///
///   reset        the full list of instances; it replaces everything before it
///   live         all changes up to now have been printed
///   put, delete  one change
///   progress     no change of this service up to the cursor
///   trouble      the registry is unavailable, and changes may arrive late;
///                `why` and `message` have the error
///   gone         the history after the cursor is lost: it was `compacted`,
///                or rolled back (`diverged`); a reset follows
///
/// If one revision contains several changes, only the last one has a `cursor`:
/// resuming between them would lose changes.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Name of the service.
    service: ServiceName,

    /// Continue after a cursor that `get` or an earlier `watch` printed: print only the changes
    /// since then, and no list of instances.
    ///
    /// The cursor must be from the same registry and service.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut signals = Signals::of(&STOP)?;
    let Ok(registry) = signals.or(session.connect()).await else { return Ok(ExitCode::SUCCESS) };
    let (service, mut cursor) = (arguments.service.clone(), arguments.after.clone());
    let backoff = Backoff::default();
    let options = FollowOptions::default()
        .with_backoff(backoff)
        .with_outage_backoff(backoff)
        .with_timeout(session.timeout());
    let mut events = pin!(follow(registry?, service, cursor.clone(), options));
    let mut printer = Printer { output: session.output(), is_troubled: false };
    let outcome = loop {
        let event = tokio::select! {
            biased;
            _ = signals.next() => break Ok(ExitCode::SUCCESS),
            Some(event) = events.next() => event,
        };
        let reached = match &event {
            FollowEvent::Reset(snapshot) => Some(snapshot.cursor().clone()),
            FollowEvent::Batch(batch) => Some(batch.cursor.clone()),
            FollowEvent::Opened(_) | FollowEvent::Live | FollowEvent::Trouble(_) => None,
        };
        if let Err(failure) = printer.print(event) {
            break Err(failure);
        }
        cursor = reached.or(cursor); // only after the event was printed
    };
    if let Some(cursor) = cursor {
        note(format_args!("resume with: --after {cursor}"));
    }
    outcome
}

/// An event, as printed in JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event<'a> {
    Reset {
        revision: Revision,
        cursor: &'a Cursor,
        undecodable: usize,
        instances: Vec<Shown<'a>>,
    },
    Live,
    Put {
        revision: Revision,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a Cursor>,
        instance: Shown<'a>,
    },
    Delete {
        revision: Revision,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a Cursor>,
        id: &'a InstanceId,
        /// Absent if the store does not know the reason.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
    Progress {
        revision: Revision,
        cursor: &'a Cursor,
    },
    Trouble {
        why: String,
        message: String,
    },
    Gone {
        why: String,
        message: String,
    },
}

fn name(reason: DeleteReason) -> Option<&'static str> {
    match reason {
        DeleteReason::Withdrawn => Some("withdrawn"),
        DeleteReason::Expired => Some("expired"),
        _ => None,
    }
}

struct Printer {
    output: Output,
    is_troubled: bool,
}

impl Printer {
    fn print(&mut self, event: FollowEvent) -> Result<(), Failure> {
        match event {
            FollowEvent::Reset(snapshot) => self.reset(&snapshot),
            FollowEvent::Opened(_) => Ok(()),
            FollowEvent::Live => self.live(),
            FollowEvent::Batch(batch) => self.batch(&batch),
            FollowEvent::Trouble(error) => self.trouble(error),
        }
    }

    fn reset(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let (cursor, revision) = (snapshot.cursor(), snapshot.cursor().revision());
        let instances: Vec<_> = snapshot.instances().map(Shown::from).collect();
        if !self.output.is_json() {
            self.output.line(format_args!("{revision} reset, instances: {}", instances.len()))?;
            let mut rows = instances.iter();
            return rows.try_for_each(|shown| self.output.line(line(revision, "is", shown)));
        }
        let undecodable = snapshot.undecodable();
        self.output.object(&Event::Reset { revision, cursor, undecodable, instances })
    }

    fn live(&mut self) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.object(&Event::Live);
        }
        if std::mem::take(&mut self.is_troubled) {
            note("live again");
        }
        Ok(())
    }

    fn batch(&self, batch: &Batch) -> Result<(), Failure> {
        let (cursor, revision) = (&batch.cursor, batch.revision());
        let Some(last) = batch.changes.len().checked_sub(1) else {
            let is_json = self.output.is_json();
            return if is_json {
                self.output.object(&Event::Progress { revision, cursor })
            } else {
                Ok(())
            };
        };
        for (n, change) in batch.changes.iter().enumerate() {
            let cursor = (n == last).then_some(cursor);
            match change {
                Change::Put(record) => {
                    let text = line(revision, "put", &record.instance().into());
                    let instance = record.instance().into();
                    self.output.say(&Event::Put { revision, cursor, instance }, text)?;
                }
                Change::Delete(deleted) => {
                    let (id, reason) = (deleted.id(), deleted.reason().and_then(name));
                    let suffix = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                    let text = format!("{revision} delete {id}{suffix}");
                    self.output.say(&Event::Delete { revision, cursor, id, reason }, text)?;
                }
            }
        }
        Ok(())
    }

    /// Reports an error from which `follow` recovers. Returns any other one, which ends the watch.
    fn trouble(&mut self, error: Error) -> Result<(), Failure> {
        let (why, message) = (error.kind().to_string(), error.chain().to_string());
        match error.kind() {
            ErrorKind::Compacted | ErrorKind::Diverged => {
                let text = format!("gone: {why}: {message}");
                self.output.say(&Event::Gone { why, message }, text)
            }
            ErrorKind::Unavailable => {
                self.is_troubled = true;
                if self.output.is_json() {
                    return self.output.object(&Event::Trouble { why, message });
                }
                note(format_args!("trouble: {message}"));
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

fn line(revision: Revision, change: &str, shown: &Shown<'_>) -> String {
    let row = shown.row();
    let text = format!("{revision} {change} {}", row.join(" "));
    text.trim_end().to_owned()
}
