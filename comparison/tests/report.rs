//! The report, from the command line to its files, on real servers.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::process::Command;

/// Runs one round of an experiment, checks its report and returns the finding.
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
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(output.contains(finding["headline"].as_str().unwrap()), "{output}");
    let html = fs::read_to_string(folder.path().join("report.html")).unwrap();
    let claim = finding["claim"].as_str().unwrap();
    assert!(html.contains("class=\"bars\"") && html.contains(claim), "{html}");
    finding.clone()
}

#[test]
fn a_disconnected_client_misses_changes_with_plain_redis_and_none_with_the_registry() {
    let finding = report("versioning");
    assert_eq!(finding["verdict"], "in-part");
    for arm in ["ours-on-redis", "ours-on-etcd", "plain-etcd"] {
        let run = &finding["raw"][arm][0];
        assert_eq!((&run["missed"], &run["stale_at_end"]), (&0.into(), &0.into()), "{arm}: {run}");
    }
}

#[test]
fn the_registry_reports_the_changes_that_a_paused_client_missed() {
    let finding = report("delivery");
    assert_eq!(finding["verdict"], "confirmed");
    let run = &finding["raw"]["pauses"]["ours-on-redis"][0];
    assert_eq!((&run["undetected"], &run["resyncs"]), (&0.into(), &1.into()), "{run}");
    for arm in ["ours-on-redis", "ours-on-etcd"] {
        let run = &finding["raw"]["failovers"][arm][0];
        let figures = (&run["undetected"], &run["stale_at_end"]);
        assert_eq!(figures, (&0.into(), &0.into()), "{arm}: {run}");
    }
}

#[test]
fn pushes_and_expirations_are_reported_separately_and_pushes_for_each_level_of_durability() {
    let finding = report("latency");
    let levels = finding["raw"]["pushes"].as_object().unwrap();
    assert_eq!(levels.len(), 4, "{:?}", levels.keys());
    for (level, found) in levels {
        let has_etcd = found["runs"].get("ours-on-etcd").is_some();
        assert!(!has_etcd || level != "within-a-second", "etcd has no such setting");
        let seen = &found["runs"]["ours-on-redis"][0]["seen"]["p50"];
        assert!(seen.as_f64().unwrap() > 0.0, "{level}: {seen}");
    }
    let beside_many = &finding["raw"]["expirations"]["1000"];
    let last = |arm: &str| beside_many[arm][0]["max"].as_f64();
    assert!(last("keyspace") > last("ours-on-redis"), "{beside_many}");
}

#[test]
fn a_partitioned_redis_loses_acknowledged_writes_and_raft_loses_none() {
    let finding = report("partition");
    assert_eq!(finding["verdict"], "confirmed");
    let raft = &finding["raw"]["etcd"][0]["ours-on-etcd"];
    let figures = (&raft["minority_writes_after_takeover"], &raft["lost"]);
    assert_eq!(figures, (&0.into(), &0.into()), "{raft}");
    let sentinel = &finding["raw"]["sentinel"][0];
    assert!(sentinel["publish"]["lost"].as_u64().unwrap() > 0, "{sentinel}");
    // A live instance registers again on its own; a write to a hash is lost for good.
    let late = |arm: &str| sentinel[arm]["late"].as_u64().unwrap();
    assert_eq!((late("ours-on-redis"), late("publish")), (5, 0), "{sentinel}");
    assert_eq!(sentinel["ours-on-redis"]["unlisted"], 0, "{sentinel}");
}

#[test]
fn a_crashed_server_keeps_synced_writes_and_leases_survive_an_outage() {
    let finding = report("persistence");
    assert_eq!(finding["verdict"], "in-part");
    let run = |mode: &str| &finding["raw"]["runs"][mode][0];
    assert_eq!(run("plain-keys")["listed"], 0);
    for mode in ["redis-always", "etcd"] {
        let run = run(mode);
        let figures = (&run["lost"], &run["unsynced"]["Ok"], &run["listed"]);
        assert_eq!(figures, (&0.into(), &0.into(), &50.into()), "{mode}: {run}");
    }
    // Nearly every write is acknowledged before the sync that happens once per second.
    let run = run("redis-every-second");
    assert!(run["unsynced"]["Ok"].as_u64().unwrap() > 100, "{run}");
}

#[test]
fn an_unknown_experiment_is_rejected_with_the_list_of_experiments() {
    let program = env!("CARGO_BIN_EXE_comparison");
    let run = Command::new(program).args(["report", "--only", "nonsense"]).output().unwrap();
    let output = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && output.contains("versioning"), "{output}");
}
