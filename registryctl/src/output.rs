//! How things are printed: tables and lines for people, JSON for machines.

use crate::failure::Failure;
use comfy_table::{Table, presets};
use serde::Serialize;
use service_registry::{Instance, InstanceStatus};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

/// Where data goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    stream: Stream,
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Out,
    /// Standard output is another's.
    Err,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stream: Stream::Out }
    }

    /// In the same form, on standard error.
    pub(crate) fn on_stderr(self) -> Self {
        Self { stream: Stream::Err, ..self }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// An object for machines, or a line for people.
    pub(crate) fn say(self, object: &impl Serialize, line: impl Display) -> Result<(), Failure> {
        if self.json { self.object(object) } else { self.line(line) }
    }

    pub(crate) fn object(self, object: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(object)
            .unwrap_or_else(|error| unreachable!("what is printed has text for keys: {error}"));
        self.line(json)
    }

    pub(crate) fn line(self, line: impl Display) -> Result<(), Failure> {
        let write = |stream: &mut dyn Write| {
            writeln!(stream, "{line}")?;
            stream.flush()
        };
        match self.stream {
            Stream::Out => write(&mut io::stdout().lock()),
            Stream::Err => write(&mut io::stderr().lock()),
        }
        .map_err(Failure::Output)
    }

    pub(crate) fn table<const N: usize>(
        self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt())
    }
}

/// Tells people something beside the data.
pub(crate) fn note(text: impl Display) {
    // Nobody is left to be told that nobody listens.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An instance as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    id: &'a str,
    address: &'a str,
    weight: u32,
    status: InstanceStatus,
    metadata: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Instance> for Shown<'a> {
    fn from(instance: &'a Instance) -> Self {
        Self {
            id: instance.id().as_str(),
            address: instance.address().as_str(),
            weight: instance.weight(),
            status: instance.status(),
            metadata: instance.metadata(),
        }
    }
}

impl Shown<'_> {
    pub(crate) const HEADER: [&'static str; 5] = ["ID", "ADDRESS", "WEIGHT", "STATUS", "METADATA"];

    /// What stands below the header.
    pub(crate) fn row(&self) -> [String; 5] {
        let metadata =
            self.metadata.iter().map(|(key, value)| printable(&format!("{key}={value}")));
        [
            self.id.to_owned(),
            self.address.to_owned(),
            self.weight.to_string(),
            format!("{:?}", self.status).to_lowercase(),
            metadata.collect::<Vec<_>>().join(" "),
        ]
    }
}

/// What was read from a registry must not steer a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_cannot_steer_a_terminal() {
        let address = "10.0.0.1:80".parse().unwrap();
        let instance = Instance::from_parts("a".parse().unwrap(), "1".parse().unwrap(), address)
            .with_metadata([("k", "a\n\u{1b}[2J\u{e9}")]);
        assert_eq!(Shown::from(&instance).row()[4], "k=a\\n\\u{1b}[2J\u{e9}");
    }
}
