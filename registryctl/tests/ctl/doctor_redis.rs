//! `doctor` on Redis.

use crate::support::{Ended, instance, register, registry, run, within};
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use registry_testbed::servers::{Redis, RedisCluster, ServerOptions};
use service_registry::store::CallOptions;

struct Patient {
    server: Redis,
    raw: MultiplexedConnection,
}

impl Patient {
    async fn new() -> Self {
        Self::started_with(&[]).await
    }

    async fn started_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = ServerOptions { url: None, arguments, ..Redis::options() };
        let server = within(Redis::start_with(options)).await.expect("a server");
        let client = redis::Client::open(server.url()).unwrap();
        let raw = within(client.get_multiplexed_async_connection()).await.unwrap();
        Self { server, raw }
    }

    /// Runs a command, its words separated by blanks.
    async fn run<T: FromRedisValue>(&mut self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        within(command.query_async(&mut self.raw)).await.unwrap()
    }

    /// Returns the only key of this kind: one shard is in use.
    async fn key(&mut self, kind: &str) -> String {
        let keys: Vec<String> = self.run(&format!("KEYS *:{kind}")).await;
        let [key] = &keys[..] else { panic!("expected one key: {keys:?}") };
        key.clone()
    }

    async fn examine(&self) -> Ended {
        examine(self.server.url()).await
    }
}

async fn examine(url: &str) -> Ended {
    run(url, &["doctor", "--json"]).await
}

#[tokio::test]
async fn a_healthy_store_has_no_error_and_nothing_is_left_behind() {
    let patient = Patient::started_with(&["--appendonly", "yes"]).await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.json().iter().all(|one| one["level"] == "ok"), "{ended:?}");
    for check in ["answer", "register", "release", "replicas", "memory", "disk", "clock", "history"]
    {
        ended.finding("ok", check);
    }
    assert!(ended.finding("ok", "disk").contains("everysec"), "{ended:?}");
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
    assert_eq!(
        within(registry.services(&CallOptions::DEFAULT)).await.unwrap().len(),
        1,
        "`~doctor` is gone"
    );
}

#[tokio::test]
async fn undecodable_records_are_named() {
    let mut patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    register(&*registry, &instance("2")).await;
    let state = patient.key("state").await;
    patient.run::<()>(&format!("HSET {state} user.rpc\u{1f}2 junk")).await;
    let ended = patient.examine().await;
    let unreadable = ended.finding("warning", "records");
    assert!(
        unreadable.contains("user.rpc/2") && !unreadable.contains("user.rpc/1"),
        "{unreadable}"
    );
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
}

#[tokio::test]
async fn a_server_that_may_evict_the_registry_is_an_error() {
    let mut patient = Patient::new().await;
    patient.run::<()>("CONFIG SET maxmemory-policy allkeys-lru").await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 1);
    let told = ended.finding("error", "connect");
    assert!(told.contains("allkeys-lru") && told.contains("noeviction"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_nearly_full_is_a_warning() {
    let mut patient = Patient::new().await;
    // Large enough that one connection more or less does not matter.
    patient.run::<()>("SETRANGE bulk 50000000 x").await;
    let info: String = patient.run("INFO memory").await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = used.trim().parse::<u64>().unwrap() / 10 * 11;
    patient.run::<()>(&format!("CONFIG SET maxmemory {limit}")).await;
    patient.examine().await.finding("warning", "memory");
}

#[tokio::test]
async fn a_shard_that_lost_a_key_is_an_error() {
    let mut patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    let index = patient.key("idx").await;
    patient.run::<()>(&format!("DEL {index}")).await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let lost = ended.finding("error", "shards");
    assert!(lost.contains(index.trim_end_matches(":idx")), "{lost}");
    assert!(lost.contains("`registryctl ls`"), "{lost}");
    // `doctor` has repaired it by registering and by reading the records.
    assert_eq!(patient.examine().await.code, 0);
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
}

#[tokio::test]
async fn a_log_that_another_program_wrote_to_is_an_error_once() {
    let mut patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    let log = patient.key("log").await;
    patient.run::<()>(&format!("XADD {log} * x y")).await;
    let ended = patient.examine().await;
    assert!(ended.finding("error", "shards").contains("entries=`1`"), "{ended:?}");
    register(&*registry, &instance("2")).await;
    assert_eq!(patient.examine().await.code, 0);
}

#[tokio::test]
async fn a_key_of_another_type_is_named_with_the_command_that_repairs_it() {
    let mut patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    let index = patient.key("idx").await;
    patient.run::<()>(&format!("DEL {index}")).await;
    patient.run::<()>(&format!("SET {index} x")).await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let wrong = ended.finding("error", "shards");
    let command = format!("DEL {index}");
    assert!(wrong.contains(&format!("`redis-cli {command}`")), "{wrong}");
    patient.run::<()>(&command).await;
    patient.examine().await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
}

#[tokio::test]
async fn a_shard_that_cannot_be_read_is_an_error_and_hides_no_other() {
    let mut patient = Patient::new().await;
    let registry = registry(patient.server.url()).await;
    register(&*registry, &instance("1")).await;
    // Neither the service nor `~doctor` is in this shard.
    let junk = "{registry/03}";
    patient.run::<()>(&format!("SET {junk}:state junk")).await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for check in ["shards", "records"] {
        let lost = ended.finding("error", check);
        assert!(lost.contains(junk) && !lost.contains("{registry/15}"), "{lost}");
    }
    assert!(ended.finding("ok", "history").contains("of 16"), "{ended:?}");
    assert!(ended.finding("ok", "records").contains("instances: 1, of services: 1"));
    ended.finding("ok", "register");
}

#[tokio::test]
async fn a_server_without_persistence_is_a_warning() {
    let patient = Patient::new().await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.finding("warning", "disk").contains("appendonly"), "{ended:?}");
}

#[tokio::test]
async fn a_prefix_with_another_layout_is_an_error() {
    let mut patient = Patient::new().await;
    patient.run::<()>("HSET {registry}:layout format 1 shards 4").await;
    let ended = patient.examine().await;
    assert_eq!(ended.code, 1);
    assert!(ended.finding("error", "connect").contains("another layout"), "{ended:?}");
}

#[tokio::test]
async fn wrong_and_insufficient_credentials_are_distinguished() {
    let mut patient = Patient::started_with(&["--appendonly", "yes"]).await;
    // The documented rights of an owner, which exclude CONFIG.
    patient
        .run::<()>(
            "ACL SETUSER app on >pw resetchannels -@all +info +client|setname +eval +evalsha +time +hsetnx \
             +hmget +hget +hgetall +hset +hdel +hlen +zadd +zrem +zrange +zrangebylex +zrangebyscore +zscore \
             +zcard +zcount +xadd +xread +xrange +xrevrange +del ~{registry}:layout \
             ~{registry/[0-9][0-9]}:state ~{registry/[0-9][0-9]}:idx ~{registry/[0-9][0-9]}:exp \
             ~{registry/[0-9][0-9]}:log",
        )
        .await;
    let url = |login: &str| patient.server.url().replace("redis://", &format!("redis://{login}@"));
    let ended = examine(&url("app:wrong")).await;
    assert_eq!(ended.code, 1);
    assert!(ended.finding("error", "connect").contains("credentials"), "{ended:?}");
    let ended = examine(&url("app:pw")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.finding("warning", "appendfsync").contains("could not be checked"), "{ended:?}");
    for check in ["register", "disk", "history", "records"] {
        ended.finding("ok", check);
    }
}

#[tokio::test]
async fn each_node_of_a_cluster_is_examined() {
    let cluster = within(RedisCluster::start()).await.expect("a cluster");
    let ended = examine(&cluster.url()).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let releases = ended.json().into_iter().filter(|one| one["check"] == "release").count();
    assert!(releases > 1, "the shards of a prefix are on several nodes: {ended:?}");
    ended.finding("ok", "register");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error() {
    let ended = examine("redis://127.0.0.1:1").await;
    assert_eq!(ended.code, 1);
    ended.finding("error", "connect");
}
