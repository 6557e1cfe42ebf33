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
    let run = &finding["raw"]["stalls"]["ours-on-redis"][0];
    assert_eq!((&run["unnoticed"], &run["resyncs"]), (&0.into(), &1.into()), "{run}");
    for means in ["ours-on-redis", "ours-on-etcd"] {
        let run = &finding["raw"]["failovers"][means][0];
        let shown = (&run["unnoticed"], &run["wrong_at_the_end"]);
        assert_eq!(shown, (&0.into(), &0.into()), "{means}: {run}");
    }
}

#[test]
fn a_push_and_a_death_are_told_apart_and_each_level_of_durability_has_a_table_of_its_own() {
    let finding = report("latency");
    let levels = finding["raw"]["pushes"]["levels"].as_object().unwrap();
    assert_eq!(levels.len(), 4, "{:?}", levels.keys());
    for (level, found) in levels {
        let has_etcd = found["runs"].get("ours-on-etcd").is_some();
        assert!(!has_etcd || level != "within-a-second", "etcd has no such setting");
        let seen = &found["runs"]["ours-on-redis"][0]["seen"]["p50"];
        assert!(seen.as_f64().unwrap() > 0.0, "{level}: {seen}");
    }
    let beside_many = &finding["raw"]["deaths"]["late"]["1000"];
    let last = |means: &str| beside_many[means][0].as_array().unwrap().last().unwrap().as_f64();
    assert!(last("keyspace") > last("ours-on-redis"), "{beside_many}");
}

#[test]
fn who_is_cut_off_acknowledges_what_is_lost_under_redis_and_nothing_under_raft() {
    let finding = report("partition");
    assert_eq!(finding["verdict"], "confirmed");
    let raft = &finding["raw"]["etcd"][0]["ours"];
    assert_eq!((&raft["alone"], &raft["lost"]), (&0.into(), &0.into()), "{raft}");
    let sentinel = &finding["raw"]["sentinel"][0];
    assert!(sentinel["hash"]["lost"].as_u64().unwrap() > 0, "{sentinel}");
    // Who lives registers again by itself; what was written once is gone for good.
    let late = |means: &str| sentinel[means]["late"].as_u64().unwrap();
    assert_eq!((late("ours"), late("hash")), (5, 0), "{sentinel}");
    assert_eq!(sentinel["ours"]["vanished"], 0, "{sentinel}");
}

#[test]
fn a_killed_server_keeps_what_it_was_told_to_keep_and_leases_outlast_an_outage() {
    let finding = report("persistence");
    assert_eq!(finding["verdict"], "in-part");
    assert_eq!(finding["raw"]["plain-keys"][0]["outage"]["listed"], 0);
    for mode in ["redis-always", "etcd"] {
        let run = &finding["raw"][mode][0];
        let lost = (&run["killed"]["lost"], &run["outage"]["listed"]);
        assert_eq!(lost, (&0.into(), &50.into()), "{mode}: {run}");
        assert_eq!(run["synced"]["Ok"]["unsynced"], 0, "{mode}: {run}");
    }
    // Before it is on disk it is acknowledged, but for the few in whose time the sync of the second falls.
    let run = &finding["raw"]["redis-every-second"][0];
    assert!(run["synced"]["Ok"]["unsynced"].as_u64().unwrap() > 100, "{run}");
}

#[test]
fn an_experiment_that_there_is_not_is_refused_with_those_that_are() {
    let program = env!("CARGO_BIN_EXE_comparison");
    let run = Command::new(program).args(["report", "--only", "nonsense"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("versioning"), "{said}");
}
