//! The events that a participant in Go or Rust prints to standard output, one line of JSON each.

use serde::{Deserialize, Serialize};
use std::io::{Write, stdout};
use std::time::{SystemTime, UNIX_EPOCH};

/// An event with its time, in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum What {
    /// A server listens or is about to.
    Serving { address: String },
    /// A call has ended. `at` is its start.
    Call {
        #[serde(default)]
        micros: u64,
        /// The server that responded.
        #[serde(default)]
        address: String,
        /// Why the call failed, or empty.
        #[serde(default)]
        error: String,
    },
    /// The endpoints that a subscriber sees.
    Endpoints {
        #[serde(default)]
        list: Vec<String>,
    },
}

/// Prints an event.
pub(crate) fn emit(at: u64, what: What) {
    let line = serde_json::to_string(&Event { at, what });
    // A write only fails if the driver has ended, and then this process ends, too.
    if let Ok(line) = line {
        writeln!(stdout().lock(), "{line}").ok();
    }
}

/// Returns the time in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "events of several processes are compared")]
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_go_are_parsed() {
        let lines = [
            (r#"{"at":7,"event":"serving","address":"[::1]:80"}"#, 7),
            (r#"{"at":8,"event":"call","address":"a:1","micros":5120}"#, 8),
            (r#"{"at":9,"event":"call","micros":12,"error":"rpc error: code = Unavailable"}"#, 9),
            (r#"{"at":10,"event":"endpoints"}"#, 10),
        ];
        for (line, at) in lines {
            assert_eq!(serde_json::from_str::<Event>(line).unwrap().at, at);
        }
        let log = r#"{"@timestamp":"2026","content":"a line of a log","level":"info"}"#;
        assert!(serde_json::from_str::<Event>(log).is_err());
    }
}
