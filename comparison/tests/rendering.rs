//! The report that is rendered from recorded figures.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

#[test]
fn the_report_in_docs_follows_from_its_figures() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/report");
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_comparison"));
    program.args(["report", "--from", &format!("{docs}/report.json"), "--output"]);
    assert!(program.arg(folder.path()).status().unwrap().success());
    for file in ["report.md", "report.html", "report.json"] {
        let rendered = fs::read_to_string(folder.path().join(file)).unwrap();
        let is_current = rendered == fs::read_to_string(format!("{docs}/{file}")).unwrap();
        assert!(is_current, "{file} is outdated: run `report --from` as the README says");
    }
}
