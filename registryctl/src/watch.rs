//! `watch`: every change to a service, as it happens.

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

/// Print a service, then every change to it with its revision, until Ctrl-C.
///
/// It goes on over outages: interruptions are told and mended.
/// With --json each line is an object, whose `type` is:
///
///   reset        forget all before, these are the instances now
///   live         all that was missed has come
///   put, delete  one change
///   progress     nothing of this service changed up to the cursor
///   trouble      what follows may be late; `why` and `message` say more
///   gone         the history after the cursor is not held any more (`compacted`),
///                or was rolled back (`diverged`); a reset follows
///
/// Where a revision makes several changes, only the last has a `cursor`: to resume
/// between them would lose some.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The service.
    service: ServiceName,

    /// Go on after a cursor that `get` or an earlier `watch` printed: what came since then, without
    /// the instances.
    ///
    /// A cursor of another registry or service is refused.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut signals = Signals::of(&STOP)?;
    let Ok(registry) = signals.or(session.connect()).await else { return Ok(ExitCode::SUCCESS) };
    let (service, mut cursor) = (arguments.service.clone(), arguments.after.clone());
    let backoff = Backoff::default();
    let pace = FollowOptions::default()
        .with_backoff(backoff)
        .with_outage_backoff(backoff)
        .with_timeout(session.timeout());
    let mut steps = pin!(follow(registry?, service, cursor.clone(), pace));
    let mut printer = Printer { output: session.output(), is_troubled: false };
    let outcome = loop {
        let step = tokio::select! {
            biased;
            _ = signals.next() => break Ok(ExitCode::SUCCESS),
            Some(step) = steps.next() => step,
        };
        let reached = match &step {
            FollowEvent::Reset(snapshot) => Some(snapshot.cursor().clone()),
            FollowEvent::Batch(batch) => Some(batch.cursor.clone()),
            FollowEvent::Opened(_) | FollowEvent::Live | FollowEvent::Trouble(_) => None,
        };
        if let Err(failure) = printer.print(step) {
            break Err(failure);
        }
        cursor = reached.or(cursor); // only what was printed counts
    };
    if let Some(cursor) = cursor {
        note(format_args!("resume with: --after {cursor}"));
    }
    outcome
}

/// What is printed as JSON.
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
        /// Absent if the store does not know it.
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

fn named(reason: DeleteReason) -> Option<&'static str> {
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
    fn print(&mut self, step: FollowEvent) -> Result<(), Failure> {
        match step {
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
                    let (id, reason) = (deleted.id(), deleted.reason().and_then(named));
                    let told = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                    let text = format!("{revision} delete {id}{told}");
                    self.output.say(&Event::Delete { revision, cursor, id, reason }, text)?;
                }
            }
        }
        Ok(())
    }

    /// What is mended is told, what cannot be is the end.
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

fn line(revision: Revision, what: &str, shown: &Shown<'_>) -> String {
    let row = shown.row();
    let text = format!("{revision} {what} {}", row.join(" "));
    text.trim_end().to_owned()
}
