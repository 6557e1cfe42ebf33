//! A recorder of everything that a test process traces and logs, at every level, to search it for secrets.

use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The variable with a folder. Each process appends what it traces and logs to a file there.
const FOLDER: &str = "REGISTRY_TEST_TRACE";

/// The text that this process has traced and logged. A clone is a handle to the same text.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<String>>);

impl Trace {
    /// Starts to record.
    ///
    /// # Panics
    ///
    /// Panics if the process has another subscriber or logger.
    pub fn capture() -> Self {
        let trace = Self::default();
        install(Sink::Text(trace.clone()));
        trace
    }

    /// Returns the text so far.
    pub fn text(&self) -> String {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts to write what is traced and logged to a file, if [`FOLDER`] is set.
pub(crate) fn write_if_enabled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.log", std::process::id()));
        let file = File::options().create(true).append(true).open(path).unwrap();
        install(Sink::File(Arc::new(Mutex::new(file))));
    });
}

fn install(sink: Sink) {
    log::set_boxed_logger(Box::new(sink.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(sink).unwrap();
}

/// The destination of lines.
#[derive(Clone)]
enum Sink {
    Text(Trace),
    File(Arc<Mutex<File>>),
}

impl Sink {
    fn line(&self, head: &str, write: impl FnOnce(&mut Line)) {
        let mut line = Line(head.to_owned());
        write(&mut line);
        line.0.push('\n');
        match self {
            Self::Text(trace) => trace.lock().push_str(&line.0),
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.0.as_bytes()).unwrap();
            }
        }
    }
}

/// A line that fields are appended to.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.line(span.metadata().name(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.line("span", |line| values.record(line));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.line(event.metadata().target(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl log::Log for Sink {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.line(record.target(), |line| write!(line.0, " {}", record.args()).unwrap());
    }

    fn flush(&self) {}
}
