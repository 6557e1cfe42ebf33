//! Output: tables and lines for people, JSON for machines. Everything is escaped to printable characters, because data
//! from a registry must not control the terminal.

use crate::failure::Failure;
use comfy_table::{Table, presets};
use registry_core::printable;
use serde::Serialize;
use service_registry::{Instance, InstanceStatus};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

/// The stream and the format of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    stream: Stream,
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Out,
    /// Standard output belongs to the command of `run`.
    Err,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stream: Stream::Out }
    }

    /// Returns the same format, on standard error.
    pub(crate) fn on_stderr(self) -> Self {
        Self { stream: Stream::Err, ..self }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints `object` as JSON, or `line` as text.
    pub(crate) fn say(self, object: &impl Serialize, line: impl Display) -> Result<(), Failure> {
        if self.json { self.object(object) } else { self.line(line) }
    }

    pub(crate) fn object(self, object: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(object)
            .unwrap_or_else(|error| unreachable!("every map has text for keys: {error}"));
        self.write(&printable_json(&json))
    }

    pub(crate) fn line(self, line: impl Display) -> Result<(), Failure> {
        self.write(&printable(&line.to_string()))
    }

    fn write(self, line: &str) -> Result<(), Failure> {
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
        let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned()));
        table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.write(&table.trim_fmt())
    }
}

/// Prints a note to standard error.
pub(crate) fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported.
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
}

/// An instance, as printed.
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

    /// Returns the cells below the header.
    pub(crate) fn row(&self) -> [String; 5] {
        let metadata = self.metadata.iter().map(|(key, value)| format!("{key}={value}"));
        [
            self.id.to_owned(),
            self.address.to_owned(),
            self.weight.to_string(),
            format!("{:?}", self.status).to_lowercase(),
            metadata.collect::<Vec<_>>().join(" "),
        ]
    }
}

/// Escapes unprintable characters as JSON does, so that a parser reads the original text.
fn printable_json(json: &str) -> Cow<'_, str> {
    if matches!(printable(json), Cow::Borrowed(_)) {
        return Cow::Borrowed(json);
    }
    // Unprintable characters occur only inside of strings: JSON syntax has none.
    let escaped = json.chars().fold(String::with_capacity(json.len()), |mut escaped, char| {
        let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
        match printable(char.encode_utf8(&mut utf8)) {
            Cow::Borrowed(_) => escaped.push(char),
            Cow::Owned(_) => escaped
                .extend(char.encode_utf16(&mut utf16).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
        escaped
    });
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_control_characters_and_parses_to_the_original() {
        let hostile = "a\n\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{200b}\u{e0041}\"\\\u{e9}";
        let json = serde_json::to_string(&[hostile]).unwrap();
        let shown = printable_json(&json);
        assert_eq!(printable(&shown), shown);
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [hostile]);
        assert!(shown.contains("\\u202e") && shown.contains("\\udb40\\udc41"), "{shown}");
    }
}
