//! Logs the events of a run to standard error, with the time since the start.

use std::fmt::{self, Debug, Write};
use std::io::{self, Write as _};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A subscriber without spans, which the registry does not use.
struct Log {
    start: Instant,
}

/// The fields of an event, the message first.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

/// Starts to log.
pub(crate) fn start() {
    // An error means that there is a subscriber already.
    tracing::subscriber::set_global_default(Log { start: Instant::now() }).ok();
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = ["registry", "faults"].iter().any(|name| metadata.target().starts_with(name));
        is_ours && *metadata.level() <= Level::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let (seconds, Fields { message, others }) = (self.start.elapsed().as_secs_f64(), fields);
        let line = format!("{seconds:8.3} {level:5} {target}: {message}{others}\n");
        io::stderr().write_all(line.as_bytes()).ok();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written: fmt::Result = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.others, " {}={value:?}", field.name())
        };
        written.ok();
    }
}
