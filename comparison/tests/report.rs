//! The report, from the command line to its files, on real servers.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::process::Command;

/// Makes one experiment, once. What it found, with what stands in the report checked.
fn report(experiment: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["report", "--quick", "--rounds", "1", "--seed", "11", "--only", experiment];
    let mut program = Command::new(env!("CARGO_BIN_EXE_comparison"));
    let run = program.args(arguments).arg("--output").arg(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let json = fs::read_to_string(folder.path().join("report.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let [finding] = &json["findings"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(finding["name"], experiment);
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(said.contains(finding["figure"].as_str().unwrap()), "{said}");
    let html = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains(finding["claim"].as_str().unwrap()), "{html}");
    finding.clone()
}

#[test]
fn who_is_cut_off_misses_what_plain_redis_sends_and_nothing_of_the_registry() {
    let finding = report("versioning");
    assert_eq!(finding["verdict"], "in-part");
    for means in ["ours-on-redis", "ours-on-etcd", "ours-in-memory"] {
        let run = &finding["raw"][means][0];
        assert_eq!((&run["missed"], &run["told"]), (&0.into(), &1.into()), "{means}: {run}");
        assert!(run["struck"].as_u64().unwrap() > 0, "{means}: {run}");
    }
}

#[test]
fn who_stands_still_is_told_by_the_registry_what_pubsub_never_tells() {
    let finding = report("delivery");
    assert_eq!(finding["verdict"], "confirmed");
    let run = &finding["raw"]["ours-on-redis"][0];
    assert_eq!((&run["unnoticed"], &run["resyncs"]), (&0.into(), &1.into()), "{run}");
}

#[test]
fn a_killed_server_keeps_what_it_was_told_to_keep_and_leases_outlast_an_outage() {
    let finding = report("persistence");
    assert_eq!(finding["verdict"], "in-part");
    assert_eq!(finding["raw"]["plain-keys"][0]["listed"], 0);
    for mode in ["redis-always", "etcd"] {
        let run = &finding["raw"][mode][0];
        assert_eq!((&run["lost"], &run["listed"]), (&0.into(), &50.into()), "{mode}: {run}");
    }
}

#[test]
fn an_experiment_that_there_is_not_is_refused_with_those_that_are() {
    let program = env!("CARGO_BIN_EXE_comparison");
    let run = Command::new(program).args(["report", "--only", "nonsense"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("versioning"), "{said}");
}
