//! The evidence report, for people and for machines.

#![allow(clippy::format_collect, reason = "a page is made once")]

mod decision;
pub mod finding;
mod html;
mod markdown;

use self::finding::Finding;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The findings of a run, one for each claim.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report<F = Finding> {
    #[serde(flatten)]
    pub conditions: Conditions,
    pub findings: Vec<F>,
}

/// When, where and how thoroughly a report was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Conditions {
    /// The time (RFC 3339).
    pub made: String,
    pub machine: String,
    pub servers: Vec<String>,
    /// The seed of the workloads and faults.
    pub seed: u64,
    pub rounds: u32,
    /// Whether less was done than usual.
    pub quick: bool,
}

impl Report {
    /// Writes `report.html`, `report.md` and `report.json` to a folder, and creates it if it is missing.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let files = [
            ("report.html", html::page(self)),
            ("report.md", markdown::page(self, markdown::bars)),
            ("report.json", serde_json::to_string_pretty(self)? + "\n"),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::finding::{Exhibit, Verdict};
    use super::*;

    /// Returns a report with characters that need escapes.
    pub(crate) fn sample(verdict: Verdict) -> Report {
        let mut exhibit = Exhibit::new("Missed", &["missed | found", "never measured"]);
        exhibit.notes.push("on a disk".to_owned());
        exhibit.add("HSET + PUBLISH", ["5 (3..9)", "-"]);
        exhibit.add("library", ["10 of 11", "-"]);
        let plot = exhibit.plot("Missed".to_owned(), 0, |_| "told".to_owned());
        let finding = Finding {
            name: "versioning",
            claim: "Redis lacks versioning",
            verdict,
            ruling: "true of plain Redis",
            headline: "It missed 5 & <none>.".to_owned(),
            plots: vec![plot],
            failed: None,
            advice: Vec::new(),
            reason: "Since.".to_owned(),
            exhibits: vec![exhibit],
            method: vec!["So.".to_owned()],
            repeat: "cargo run".to_owned(),
            raw: serde_json::json!({ "a": [1] }),
        };
        let conditions = Conditions {
            made: "2026-01-01T00:00:00Z".to_owned(),
            machine: "2 cores".to_owned(),
            servers: vec!["redis 7".to_owned()],
            seed: 7,
            rounds: 5,
            quick: true,
        };
        Report { conditions, findings: vec![finding; decision::CLAIMS] }
    }

    #[test]
    fn a_report_is_written_as_html_markdown_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        sample(Verdict::InPart).write(&path).unwrap();
        let json = fs::read_to_string(path.join("report.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["findings"][0]["verdict"], "in-part");
        assert_eq!(json["findings"][0]["raw"]["a"][0], 1);
        for name in ["report.html", "report.md"] {
            let text = fs::read_to_string(path.join(name)).unwrap();
            for part in
                ["Redis lacks versioning", "in part", "2 cores", "redis 7", "seed 7", "on a disk"]
            {
                assert!(text.contains(part), "{name} has no `{part}`:\n{text}");
            }
        }
    }
}
