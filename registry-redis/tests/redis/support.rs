//! A server, a registry on it, and an operator.

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue};
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, Error, ErrorKind, Holder, Instance, Lease, Registry,
    ServiceName, Watch,
};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::servers::Redis;
use registry_testkit::lag::timeout;
use std::sync::Arc;
use std::time::Duration;

/// The state of the only shard.
pub(crate) const STATE: &str = "{registry/00}:state";

/// The deadline of each await.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let outcome = timeout(DEADLINE, future).await;
    outcome.unwrap_or_else(|_| panic!("nothing happened within {DEADLINE:?}"))
}

/// Waits for servers to agree, for example on a failover.
pub(crate) async fn within_a_minute<T>(future: impl Future<Output = T>) -> T {
    let outcome = timeout(Duration::from_secs(60), future).await;
    outcome.expect("the servers agree in time")
}

/// Connects with deadlines of one second.
pub(crate) async fn connect_with_short_deadlines(
    url: &str,
    options: RedisOptions,
) -> Result<RedisRegistry, Error> {
    let second = Duration::from_secs(1);
    connect(url, options.with_request_deadline(second).with_connect_deadline(second)).await
}

/// Starts a server for one test, with additional `arguments`.
pub(crate) async fn server(arguments: &[&str]) -> Redis {
    let mut options = Redis::options();
    options.url = None;
    options.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    within(Redis::start_with(options)).await.unwrap()
}

pub(crate) async fn registry(server: &Redis) -> RedisRegistry {
    connect(server.url(), RedisOptions::default()).await.unwrap()
}

/// Connects a registry in which all services share one shard, `{registry/00}`.
pub(crate) async fn one_shard(server: &Redis) -> RedisRegistry {
    connect(server.url(), RedisOptions::default().with_shards(1)).await.unwrap()
}

pub(crate) async fn connect(url: &str, options: RedisOptions) -> Result<RedisRegistry, Error> {
    within(RedisRegistry::connect_with(&url.parse().unwrap(), options)).await
}

/// The connection of an operator or of another program.
#[derive(Clone)]
pub(crate) struct Operator(MultiplexedConnection);

impl Operator {
    pub(crate) async fn of(server: &Redis) -> Self {
        Self::at(server.address()).await
    }

    pub(crate) async fn at(address: &str) -> Self {
        Self::of_url(&format!("redis://{address}")).await
    }

    pub(crate) async fn of_url(url: &str) -> Self {
        let client = Client::open(url).unwrap();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Self(within(connection).await.unwrap())
    }

    /// Runs a `WAIT`. It refers to the writes of its own connection, so this writes something first.
    /// Otherwise `WAIT` returns at once, whatever the replicas have.
    pub(crate) async fn in_sync(&mut self, wait: &str) -> u64 {
        self.run::<()>("SET {registry/15}:sync 1").await;
        self.run(wait).await
    }

    /// Runs a command; blanks separate its words.
    pub(crate) async fn run<T: FromRedisValue>(&mut self, command: &str) -> T {
        let words: Vec<&str> = command.split(' ').collect();
        self.run_words(&words).await
    }

    pub(crate) async fn run_words<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        within(command.query_async(&mut self.0)).await.unwrap()
    }

    /// Runs a command that may fail.
    pub(crate) async fn try_words(&mut self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        drop(within(command.query_async::<redis::Value>(&mut self.0)).await);
    }

    /// Returns a value of `INFO`.
    pub(crate) async fn info(&mut self, name: &str) -> String {
        let info: String = self.run("INFO").await;
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(other, _)| *other == name).expect("the field exists").1.to_owned()
    }

    /// Changes the fields of `meta` of the only shard, in the order of `shard.rs`.
    pub(crate) async fn edit_meta(&mut self, edit: impl FnOnce(&mut [String; 9])) {
        let meta: String = self.run_words(&["HGET", STATE, "meta"]).await;
        let mut words: Vec<_> = meta.splitn(9, ' ').map(str::to_owned).collect();
        edit(words.as_mut_slice().try_into().unwrap());
        self.run_words::<()>(&["HSET", STATE, "meta", &words.join(" ")]).await;
    }

    /// Returns the number of connections with the name.
    pub(crate) async fn connections(&mut self, name: &str) -> usize {
        let list: String = self.run("CLIENT LIST").await;
        list.lines()
            .filter(|line| line.split(' ').any(|word| word == format!("name={name}")))
            .count()
    }

    /// Cuts all connections with the name.
    pub(crate) async fn cut(&mut self, name: &str) {
        let list: String = self.run("CLIENT LIST").await;
        let named = |line: &&str| line.split(' ').any(|word| word == format!("name={name}"));
        let mut cut = 0;
        for line in list.lines().filter(named) {
            let id = line.split(' ').find_map(|word| word.strip_prefix("id=")).unwrap();
            cut += self.run::<usize>(&format!("CLIENT KILL ID {id}")).await;
        }
        assert_ne!(cut, 0, "there is no connection `{name}` to cut:\n{list}");
    }
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

pub(crate) fn instance(service: &str, id: &str) -> Instance {
    let address = "10.0.0.1:8080".parse().unwrap();
    Instance::from_parts(service.parse().unwrap(), id.parse().unwrap(), address)
}

/// Returns a claim whose ttl is longer than any test.
pub(crate) fn claim() -> Claim {
    claim_for(Duration::from_secs(600))
}

pub(crate) fn claim_for(ttl: Duration) -> Claim {
    Claim::new(ttl).unwrap()
}

pub(crate) async fn load(registry: &RedisRegistry, name: &str) -> registry_core::Snapshot {
    within(registry.load(&service(name), &CallOptions::DEFAULT)).await.unwrap()
}

/// Loads a service and returns the ids of its instances.
pub(crate) async fn ids(registry: &RedisRegistry, name: &str) -> Vec<String> {
    let snapshot = load(registry, name).await;
    snapshot.records().ids().map(ToString::to_string).collect()
}

pub(crate) async fn register(registry: &RedisRegistry, service: &str, id: &str) {
    within(registry.register(&instance(service, id), &claim(), &CallOptions::DEFAULT))
        .await
        .unwrap();
}

pub(crate) async fn watch(registry: &RedisRegistry, name: &str, after: &Cursor) -> Watch {
    within(registry.watch(&service(name), after, &CallOptions::DEFAULT)).await.unwrap()
}

/// Opens a watch from the current revision.
pub(crate) async fn watch_from_now(registry: &RedisRegistry, name: &str) -> Watch {
    let cursor = load(registry, name).await.cursor().clone();
    watch(registry, name, &cursor).await
}

/// Returns the kind of error with which a watch after `cursor` fails, at once or later.
pub(crate) async fn watch_failure(
    registry: &RedisRegistry,
    name: &str,
    after: &Cursor,
) -> ErrorKind {
    match within(registry.watch(&service(name), after, &CallOptions::DEFAULT)).await {
        Err(error) => error.kind(),
        Ok(mut watch) => failure(&mut watch).await,
    }
}

/// Returns the next batch with changes.
pub(crate) async fn next(watch: &mut Watch) -> Arc<Batch> {
    loop {
        let batch = within(watch.next()).await.expect("a watch continues").unwrap();
        if !batch.is_progress() {
            return batch;
        }
    }
}

/// Returns the next change as text: `+id` for a put, `-id` for a delete.
pub(crate) async fn next_change(watch: &mut Watch) -> String {
    let batch = next(watch).await;
    let [change] = &batch.changes[..] else { panic!("one change per batch: {batch:?}") };
    match change {
        Change::Put(record) => format!("+{}", record.id()),
        Change::Delete(deleted) => format!("-{}", deleted.id()),
    }
}

/// Returns the kind of error that ends a watch. It may send progress before, and nothing else.
pub(crate) async fn failure(watch: &mut Watch) -> ErrorKind {
    loop {
        match within(watch.next()).await.expect("a watch ends with an error") {
            Ok(batch) => assert!(batch.is_progress(), "unexpected {batch:?}"),
            Err(error) => return error.kind(),
        }
    }
}

/// Repeats a call that fails `Unavailable` during a failover, as the engine does.
pub(crate) async fn retry_while_unavailable<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    within(async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Makes calls until one succeeds. A call fails if it is made before the client notices that its connection
/// has ended.
pub(crate) async fn reconnect(registry: &RedisRegistry) {
    let name = service("user.rpc");
    retry_while_unavailable(|| registry.load(&name, &CallOptions::DEFAULT)).await;
}

/// Asserts that the service `user.rpc` continues after a failover without loss: `lease` is alive, and the
/// ended watch `cut` can be resumed.
pub(crate) async fn assert_service_continues(registry: &RedisRegistry, lease: &Lease, cut: &Watch) {
    let two = instance("user.rpc", "2");
    retry_while_unavailable(|| async {
        registry.register(&two, &claim(), &CallOptions::DEFAULT).await
    })
    .await;
    within(registry.keep_alive(lease, &CallOptions::DEFAULT))
        .await
        .expect("the successor has the lease");
    assert_eq!(ids(registry, "user.rpc").await, ["1", "2"]);
    let mut resumed = watch(registry, "user.rpc", cut.cursor()).await;
    assert_eq!(next_change(&mut resumed).await, "+2");
}

/// Returns the holder of the id of `instance` from a refused claim, and asserts that a read returns the same one.
pub(crate) async fn holder_of(registry: &RedisRegistry, instance: &Instance) -> Holder {
    let refused = within(registry.register(instance, &claim(), &CallOptions::DEFAULT)).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error:?}");
    let named = *error.holder().expect("the error has the holder");
    let read = within(registry.holder(instance, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(read, Some(named));
    named
}
