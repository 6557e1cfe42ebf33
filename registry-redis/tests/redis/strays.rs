//! Random writes of another program to the keys of a shard. Whatever the shard contains, the next
//! registration must be made, listed, renewed and reported to watches.

use crate::support::{
    Operator, claim, instance, load, next_change, one_shard, retry_while_unavailable, server,
    service, within,
};
use fastrand::Rng;
use registry_core::{CallOptions, Claim, ErrorKind, Instance, Lease, Registry, Result};
use registry_redis::RedisRegistry;

/// How many times the keys are written to by default.
const ROUNDS: u32 = 300;

const KEYS: [(&str, &str); 4] = [
    ("{registry/00}:state", "hash"),
    ("{registry/00}:idx", "zset"),
    ("{registry/00}:exp", "zset"),
    ("{registry/00}:log", "stream"),
];

/// Returns a word that means something to the scripts, or an empty one.
fn word(random: &mut Rng) -> String {
    const WORDS: [&str; 24] = [
        "",
        "0",
        "1",
        "-1",
        "7",
        "42",
        "1e300",
        "-inf",
        "inf",
        "nan",
        "K",
        "m",
        "P",
        "D",
        "expired",
        "999999999999999",
        "9999999999999999",
        "99999999999999999999",
        "18446744073709551615",
        "9223372036854775807",
        "00000000000000aa",
        "x y",
        "\u{1f}",
        "user.rpc\u{1f}",
    ];
    match random.u32(..8) {
        0 => format!("user.rpc\u{1f}{}", random.u32(..9)),
        1 => format!("other\u{1f}{}", random.u32(..9)),
        2 => random.u64(..).to_string(),
        3 => "9".repeat(random.usize(..400)),
        _ => WORDS[random.usize(..WORDS.len())].to_owned(),
    }
}

/// Returns a value of a record, with some words in place of its numbers.
fn value(random: &mut Rng) -> String {
    let mut words = ["7", "00000000000000aa", "42", "1500", "3"].map(str::to_owned);
    if random.bool() {
        words[random.usize(..5)] = word(random);
    }
    format!("{} {{\"address\":\"10.0.0.9:80\"}}", words.join(" "))
}

/// Returns a possible value of `meta` in this format.
fn meta(random: &mut Rng) -> String {
    let mut words =
        ["7", "00000000000000aa", "00000000000000bb", "1", "0", "5", "6", "run"].map(str::to_owned);
    for _ in 0..random.usize(..3) {
        words[random.usize(..8)] = word(random);
    }
    format!("1 {}", words.join(" "))
}

/// Returns a command that writes to one of the keys or deletes part of it.
fn stray(random: &mut Rng) -> Vec<String> {
    let [state, idx, exp, log] = KEYS.map(|(key, _)| key.to_owned());
    let any = KEYS[random.usize(..4)].0.to_owned();
    match random.u32(..14) {
        0..3 => vec!["HSET".into(), state, word(random), value(random)],
        3 => vec!["HSET".into(), state, "meta".into(), meta(random)],
        4 => vec!["HSET".into(), state, word(random), word(random)],
        5 => vec!["HDEL".into(), state, ["meta".into(), word(random)][random.usize(..2)].clone()],
        6 => vec!["ZADD".into(), idx, random.u32(..2).to_string(), word(random)],
        7 => vec!["ZADD".into(), exp, word(random), word(random)],
        8 => vec!["ZREM".into(), [idx, exp][random.usize(..2)].clone(), word(random)],
        9 => vec!["XADD".into(), log, "*".into(), "x".into(), "y".into()],
        10 => {
            let id = format!("{}-{}", random.u32(..40), random.u32(..3));
            let fields = ["t", "m", "v", "p", "d"];
            let fields = fields.into_iter().flat_map(|name| [name.to_owned(), word(random)]);
            ["XADD".into(), log, id].into_iter().chain(fields).collect()
        }
        11 => vec!["XTRIM".into(), log, "MAXLEN".into(), random.u32(..3).to_string()],
        12 => vec!["DEL".into(), any],
        _ => vec!["SET".into(), any, word(random)],
    }
}

async fn register(registry: &RedisRegistry, one: &Instance, claim: &Claim) -> Result<Lease> {
    within(registry.register(one, claim, &CallOptions::DEFAULT)).await
}

/// Deletes the keys with a wrong type. No other content needs a manual repair.
async fn delete_keys_of_other_types(operator: &mut Operator) {
    for (key, expected) in KEYS {
        let found: String = operator.run(&format!("TYPE {key}")).await;
        if found != expected {
            operator.run::<usize>(&format!("DEL {key}")).await;
        }
    }
}

/// Registers an instance and renews its lease. If the revision is at its maximum, the next call drops it and
/// the record written with it, so this retries.
async fn own(registry: &RedisRegistry, operator: &mut Operator, one: &Instance) -> Lease {
    let claim = claim();
    for _ in 0..3 {
        let lease = match register(registry, one, &claim).await {
            Err(error) if error.kind() == ErrorKind::Invalid => {
                delete_keys_of_other_types(operator).await;
                register(registry, one, &claim).await
            }
            outcome => outcome,
        };
        let lease = lease.unwrap();
        match within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await {
            Ok(_) => return lease,
            Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
        }
    }
    panic!("{one:?} is lost repeatedly");
}

/// Asserts that a registration succeeds and works completely.
async fn assert_serves(registry: &RedisRegistry, operator: &mut Operator, round: u32) {
    let [one, two] = ["a", "b"].map(|id| instance("user.rpc", &format!("{id}{round}")));
    let lease = own(registry, operator, &one).await;
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert!(listed.contains(&service("user.rpc")));
    let loaded = load(registry, "user.rpc").await;
    assert_eq!(loaded.records().find(one.id().as_str()).unwrap().instance(), &one);

    // While the feed still follows the history from before a stray write, it refuses new watches.
    let user = service("user.rpc");
    let mut watch = retry_while_unavailable(|| async {
        let opened = registry.watch(&user, loaded.cursor(), &CallOptions::DEFAULT).await;
        opened.inspect_err(|error| {
            let reason = error.chain().to_string();
            assert!(reason.contains("the history changed while it was being read"), "{reason}");
        })
    })
    .await;
    register(registry, &two, &claim()).await.unwrap();
    let expected = format!("+{}", two.id());
    while next_change(&mut watch).await != expected {}
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn no_write_of_another_program_stops_registrations() {
    let rounds = std::env::var("REGISTRY_TEST_CHANGES").ok().and_then(|n| n.parse().ok());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    for round in 0..rounds.unwrap_or(ROUNDS) {
        for _ in 0..random.u32(1..4) {
            let command = stray(&mut random);
            println!("{round}: {command:?}");
            let words: Vec<_> = command.iter().map(String::as_str).collect();
            operator.try_words(&words).await;
        }
        assert_serves(&registry, &mut operator, round).await;
    }
}
