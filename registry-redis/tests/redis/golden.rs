//! The stored format: the files in `golden/` that every release must read.
//!
//! `shard.txt` and `cursor.txt` are what this release writes; `future.txt` is what a later release may write.
//! A file lists the keys of a shard, each with its type, followed by one line per entry: `field = value`,
//! `score member` or `id field = value`. `<SHARD>` stands for the hash tag, `<RUN_ID>` for the server's run
//! id, `<LINEAGE>` for the lineage, `<TIME>` for a time in ms; `\x1f` is the separator of a member.

use crate::support::{
    Operator, ids, instance, load, next, one_shard, server, service, watch, within,
};
use registry_core::{
    CallOptions, Change, Claim, Cursor, DeleteReason, Deleted, Instance, InstanceStatus, Lease,
    LeaseId, Port, Record, Registry, Revision,
};
use registry_redis::RedisRegistry;
use registry_testbed::servers::Redis;
use std::fmt::Write;
use std::time::Duration;

const SHARD: &str = include_str!("../../golden/shard.txt");
const FUTURE: &str = include_str!("../../golden/future.txt");
const CURSOR: &str = include_str!("../../golden/cursor.txt");

/// The first digest of the shard in the files.
const SEED: &str = "00ff00ff00ff00ff";

fn full() -> Instance {
    instance("user.rpc", "full")
        .with_port("admin", Port::new(9090).with_protocol("http"))
        .with_port("debug", 6060)
        .with_zone("eu-1")
        .with_label("tier", "gold")
        .with_weight(7)
        .with_status(InstanceStatus::Draining)
        .with_metadata([("commit", "4f2a")])
}

fn claim(lease: i64, ttl: Duration) -> Claim {
    Claim::new(ttl).unwrap().with_lease(LeaseId::new(lease).unwrap())
}

async fn run_id(operator: &mut Operator) -> String {
    operator.info("run_id").await
}

/// Writes the keys in a file to the server.
async fn write(server: &Redis, file: &str) {
    let mut operator = Operator::of(server).await;
    let file = file
        .replace("<SHARD>", "{registry/00}")
        .replace("<RUN_ID>", &run_id(&mut operator).await)
        .replace("<LINEAGE>", "00000000000000ab")
        .replace("\\x1f", "\u{1f}");
    let now: (u64, u64) = operator.run("TIME").await;
    let now = now.0 * 1000 + now.1 / 1000;
    let (mut key, mut stored) = (String::new(), String::new());
    let mut entry: Vec<String> = Vec::new();
    for line in file.lines().chain(["hash end"]) {
        if let Some((kind, name)) = line.split_once(' ').filter(|(kind, _)| is_type(kind)) {
            if !entry.is_empty() {
                add(&mut operator, &key, std::mem::take(&mut entry)).await;
            }
            (stored, key) = (kind.to_owned(), name.to_owned());
            continue;
        }
        match stored.as_str() {
            "hash" => {
                let (field, value) = line.split_once(" = ").unwrap();
                // Of meta: the time before which no lease expires, and when the clock was saved.
                let value = value.replace("<TIME>", &now.to_string());
                operator.run_words::<()>(&["HSET", &key, field, &value]).await;
            }
            "zset" => {
                let (score, member) = line.split_once(' ').unwrap();
                let score = score.replace("<TIME>", &(now + 600_000).to_string());
                operator.run_words::<()>(&["ZADD", &key, &score, member]).await;
            }
            _ => {
                let (id, field) = line.split_once(' ').unwrap();
                if entry.first().is_some_and(|first| first != id) {
                    add(&mut operator, &key, std::mem::take(&mut entry)).await;
                }
                if entry.is_empty() {
                    entry.push(id.to_owned());
                }
                let (name, value) = field.split_once(" =").unwrap();
                entry.extend([name.to_owned(), value.trim_start().to_owned()]);
            }
        }
    }
}

fn is_type(word: &str) -> bool {
    matches!(word, "hash" | "zset" | "stream")
}

async fn add(operator: &mut Operator, key: &str, entry: Vec<String>) {
    let words: Vec<&str> =
        ["XADD", key].into_iter().chain(entry.iter().map(String::as_str)).collect();
    operator.run_words::<()>(&words).await;
}

/// Returns the keys of the shard in the form of the files.
async fn dump(server: &Redis) -> String {
    let mut operator = Operator::of(server).await;
    let mut text = String::new();
    let key = |name: &str| format!("{{registry/00}}:{name}");
    let state: std::collections::BTreeMap<String, String> =
        operator.run(&format!("HGETALL {}", key("state"))).await;
    writeln!(text, "hash <SHARD>:state").unwrap();
    for (field, value) in state {
        let mut words: Vec<&str> = value.split(' ').collect();
        if field == "meta" {
            // Lineage, lag, due, saved_at and run_id.
            assert_eq!(words.len(), 9, "{value}");
            (words[3], words[6], words[7], words[8]) =
                ("<LINEAGE>", "<TIME>", "<TIME>", "<RUN_ID>");
        }
        writeln!(text, "{field} = {}", words.join(" ")).unwrap();
    }
    for name in ["idx", "exp"] {
        let members: Vec<(String, String)> =
            operator.run(&format!("ZRANGE {} 0 -1 WITHSCORES", key(name))).await;
        writeln!(text, "zset <SHARD>:{name}").unwrap();
        for (member, score) in members {
            let score = if name == "exp" { "<TIME>" } else { &score };
            writeln!(text, "{score} {member}").unwrap();
        }
    }
    let log: Vec<(String, Vec<String>)> = operator.run(&format!("XRANGE {} - +", key("log"))).await;
    writeln!(text, "stream <SHARD>:log").unwrap();
    for (id, fields) in log {
        for field in fields.chunks(2) {
            writeln!(text, "{}", format!("{id} {} = {}", field[0], field[1]).trim_end()).unwrap();
        }
    }
    text.replace('\u{1f}', "\\x1f")
}

/// Starts the history of the files.
async fn begin(server: &Redis) -> RedisRegistry {
    let registry = one_shard(server).await;
    write(
        server,
        &format!("hash <SHARD>:state\nmeta = 1 0 {SEED} <LINEAGE> 0 0 <TIME> <TIME> <RUN_ID>\n"),
    )
    .await;
    registry
}

async fn register(registry: &RedisRegistry, instance: &Instance, claim: &Claim) -> Lease {
    within(registry.register(instance, claim, &CallOptions::DEFAULT)).await.unwrap()
}

/// Records with all fields and with none, and all kinds of changes.
async fn write_history(server: &Redis) -> RedisRegistry {
    let registry = begin(server).await;
    let long = Duration::from_secs(600);
    register(&registry, &full(), &claim(i64::MAX, long)).await;
    register(&registry, &instance("user.rpc", "bare"), &claim(2, long)).await;
    let gone = register(&registry, &instance("user.rpc", "gone"), &claim(3, long)).await;
    within(registry.deregister(&gone, &CallOptions::DEFAULT)).await.unwrap();
    let bare = instance("user.rpc", "bare").with_weight(50);
    register(&registry, &bare, &claim(2, long)).await;
    let short = Duration::from_millis(100);
    register(&registry, &instance("a/b c", "brief"), &claim(4, short)).await;
    within(async { while !ids(&registry, "a/b c").await.is_empty() {} }).await;
    let taken = instance("user.rpc", "bare");
    within(registry_testkit::case::take_over(&registry, &taken, &claim(5, long))).await.unwrap();
    registry
}

#[tokio::test]
async fn written_keys_match_the_golden_file() {
    let server = server(&[]).await;
    let registry = write_history(&server).await;
    assert_eq!(dump(&server).await, SHARD, "the stored format must not change");
    let cursor = load(&registry, "user.rpc").await.cursor().to_string();
    assert_eq!(cursor, CURSOR.trim_end());
}

#[tokio::test]
async fn golden_file_is_read() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    write(&server, SHARD).await;
    let lease = |lease| LeaseId::new(lease).unwrap();
    let record = |instance, by, at| {
        Record::new(instance)
            .with_lease(lease(by))
            .with_ttl(Duration::from_secs(600))
            .with_revision(Revision::new(at))
    };
    let bare = instance("user.rpc", "bare");
    let full_record = record(full(), i64::MAX, 1);
    let loaded = load(&registry, "user.rpc").await;
    assert_eq!(loaded.records()[..], [record(bare.clone(), 5, 8), full_record.clone()]);
    assert_eq!(
        (loaded.undecodable(), loaded.cursor().to_string().as_str()),
        (0, CURSOR.trim_end())
    );

    let start: Cursor = format!("1:redis:registry:user.rpc:0:{SEED}").parse().unwrap();
    let mut log = watch(&registry, "user.rpc", &start).await;
    let gone = instance("user.rpc", "gone");
    let withdrawn = Deleted::new(gone.id().clone()).with_reason(DeleteReason::Withdrawn);
    let changes = [
        Change::Put(full_record),
        Change::Put(record(bare.clone(), 2, 2)),
        Change::Put(record(gone, 3, 3)),
        Change::Delete(withdrawn),
        Change::Put(record(bare.clone().with_weight(50), 2, 5)),
        Change::Put(record(bare.clone(), 5, 8)),
    ];
    for change in changes {
        assert_eq!(next(&mut log).await.changes, [change]);
    }
    let start: Cursor = format!("1:redis:registry:a/b%20c:0:{SEED}").parse().unwrap();
    let mut log = watch(&registry, "a/b c", &start).await;
    next(&mut log).await;
    let expired = Deleted::new("brief".parse().unwrap()).with_reason(DeleteReason::Expired);
    assert_eq!(next(&mut log).await.changes, [Change::Delete(expired)]);

    // The holder repeats its claim, and the history continues at the cursor.
    let repeated = register(&registry, &bare, &claim(5, Duration::from_secs(600))).await;
    assert_eq!(repeated.revision(), Revision::new(8));
    within(registry.keep_alive(&repeated, &CallOptions::DEFAULT)).await.unwrap();
    let mut live = watch(&registry, "user.rpc", &CURSOR.trim_end().parse().unwrap()).await;
    within(registry.deregister(&repeated, &CallOptions::DEFAULT)).await.unwrap();
    let batch = next(&mut live).await;
    assert_eq!(batch.changes[0].id(), bare.id());
}

/// A later release may have more statuses, fields and reasons, and may omit fields of a record.
#[tokio::test]
async fn shard_of_a_later_release_can_be_read() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    write(&server, FUTURE).await;
    let before = dump(&server).await;
    let loaded = load(&registry, "user.rpc").await;
    assert_eq!(loaded.undecodable(), 0);
    let [least, record] = &loaded.records()[..] else { panic!("{loaded:?}") };
    let address = "10.0.0.2:80".parse().unwrap();
    let all_defaults = Instance::from_parts(service("user.rpc"), "least".parse().unwrap(), address);
    assert_eq!(least.instance(), &all_defaults);
    assert_eq!(record.instance().status(), InstanceStatus::Unknown);
    assert!(!record.instance().is_available());
    assert_eq!(record.instance().address().to_string(), "10.0.0.1:8080");
    assert_eq!(record.lease(), LeaseId::new(2).ok());
    let start: Cursor = format!("1:redis:registry:user.rpc:0:{SEED}").parse().unwrap();
    let mut log = watch(&registry, "user.rpc", &start).await;
    next(&mut log).await;
    let deleted = Deleted::new("gone".parse().unwrap());
    assert_eq!(next(&mut log).await.changes, [Change::Delete(deleted)]);
    assert_eq!(next(&mut log).await.changes, [Change::Put(record.clone())]);
    assert_eq!(next(&mut log).await.changes, [Change::Put(least.clone())]);
    assert_eq!(dump(&server).await, before, "a reader changes nothing");
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, [service("user.rpc")].into());
}
