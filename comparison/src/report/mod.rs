//! The evidence report: what the experiments found, for people and for machines.

#![allow(clippy::format_collect, reason = "a page is made once")]

pub mod finding;
mod html;
mod markdown;
mod svg;

use self::finding::Finding;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// All that a run found, and where it was made.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// When it was made (RFC 3339).
    pub made: String,
    /// The machine.
    pub machine: String,
    /// The servers.
    pub servers: Vec<String>,
    /// What the workloads were drawn from.
    pub seed: u64,
    /// Whether less was done than usual.
    pub quick: bool,
    /// What was found, one for each claim.
    pub findings: Vec<Finding>,
}

impl Evidence {
    /// Writes `report.html`, `report.md` and `report.json` to a folder, which is made if it is not there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let files = [
            ("report.html", html::page(self)),
            ("report.md", markdown::page(self, |_| String::new())),
            ("report.json", serde_json::to_string_pretty(self)? + "\n"),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Where and how it was made, a line each.
    fn conditions(&self) -> Vec<String> {
        let effort = if self.quick { "quick: less of everything" } else { "full" };
        let mut lines =
            vec![format!("{}, {effort}, seed {}", self.made, self.seed), self.machine.clone()];
        lines.push(format!("servers, where nothing else is said: {}", self.servers.join("; ")));
        lines
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::finding::{Exhibit, Verdict};
    use super::*;

    /// Something to show, with characters that need care.
    pub(crate) fn sample(verdict: Verdict) -> Evidence {
        let mut exhibit = Exhibit::new("Missed", &["missed | found"], &["undetected", "detected"]);
        exhibit.notes.push("on a disk".to_owned());
        exhibit.add("HSET + PUBLISH", ["5 (3..9)"], [30.0, 10.0]);
        exhibit.add("registry", ["0"], [0.0, 0.0]);
        let finding = Finding {
            name: "versioning",
            claim: "Redis lacks versioning",
            verdict,
            figure: "5 (3..9) & <none>".to_owned(),
            reason: "Since.".to_owned(),
            exhibits: vec![exhibit],
            method: vec!["So.".to_owned()],
            repeat: "cargo run".to_owned(),
            raw: serde_json::json!({ "a": [1] }),
        };
        Evidence {
            made: "2026-01-01T00:00:00Z".to_owned(),
            machine: "2 cores".to_owned(),
            servers: vec!["redis 7".to_owned()],
            seed: 7,
            quick: true,
            findings: vec![finding],
        }
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
