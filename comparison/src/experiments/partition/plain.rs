//! What people build by hand on a replicated Redis, with the Sentinel and cluster clients of the `redis` crate.

use super::clients::{Client, TTL};
use crate::observers::connection::RedisTarget;
use anyhow::{Context, Result};
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long one server may take to connect, and to answer.
const STEP_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a call may take in all: also to find the right server while another one is silent.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The time between two full reads of a caller.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How instances are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a hash, written once.
    Hash,
    /// As keys with a ttl that are set periodically.
    Keys,
}

/// A client of a plain Redis.
pub(super) struct PlainRedis {
    kind: Kind,
    target: Target,
    /// The target after the partition has healed, with the flag that says so.
    after_heal: Option<(Arc<AtomicBool>, Target)>,
    connection: RefCell<Option<Connection>>,
}

enum Target {
    Redis(RedisTarget),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl PlainRedis {
    /// Returns a client of the servers that a URL names.
    pub(super) fn open(kind: Kind, url: &str) -> Result<Self> {
        let target = Target::parse(url)?;
        Ok(Self { kind, target, after_heal: None, connection: RefCell::default() })
    }

    /// Returns the client with other servers after the partition has healed.
    pub(super) fn switch_to(self, url: &str, is_healed: Arc<AtomicBool>) -> Result<Self> {
        Ok(Self { after_heal: Some((is_healed, Target::parse(url)?)), ..self })
    }

    /// Runs a command. A connection that fails is dropped.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let open = self.connection.borrow_mut().take();
        let answer = async {
            let mut connection = match open {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = connection.query(command).await?;
            *self.connection.borrow_mut() = Some(connection);
            anyhow::Ok(answer)
        };
        timeout(RESPONSE_TIMEOUT, answer).await.context("no answer")?
    }

    async fn connect(&self) -> Result<Connection> {
        let after_heal = self.after_heal.as_ref();
        let switched = after_heal.filter(|(is_healed, _)| is_healed.load(Ordering::Relaxed));
        Ok(match switched.map_or(&self.target, |(_, target)| target) {
            Target::Redis(target) => {
                let client = target.client().await?;
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(STEP_TIMEOUT))
                    .set_response_timeout(Some(STEP_TIMEOUT));
                Connection::Single(
                    client.get_multiplexed_async_connection_with_config(&config).await?,
                )
            }
            Target::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }

    /// Returns a key in the slot of the registry's shard, so that the fault hits both.
    fn key(id: &str) -> String {
        format!("{{registry/15}}:plain:{id}")
    }
}

#[async_trait(?Send)]
impl Client for PlainRedis {
    async fn register(&self, id: &str) -> Result<()> {
        let command = match self.kind {
            Kind::Hash => redis::cmd("HSET").arg(Self::key("all")).arg(id).arg("here").to_owned(),
            Kind::Keys => redis::cmd("SET").arg(Self::key(id)).arg("here").to_owned(),
        };
        self.run(&command).await
    }

    async fn listed(&self) -> Result<BTreeSet<String>> {
        match self.kind {
            Kind::Hash => self.run(redis::cmd("HKEYS").arg(Self::key("all"))).await,
            Kind::Keys => {
                let keys: Vec<String> = self.run(redis::cmd("KEYS").arg(Self::key("*"))).await?;
                let prefix = Self::key("");
                Ok(keys.iter().map(|key| key.trim_start_matches(&prefix).to_owned()).collect())
            }
        }
    }

    async fn keep_registered(&self, id: &str) -> Result<Infallible> {
        match self.kind {
            Kind::Hash => {
                while self.register(id).await.is_err() {
                    sleep(POLL_INTERVAL).await;
                }
                pending().await
            }
            Kind::Keys => loop {
                let mut set = redis::cmd("SET");
                set.arg(Self::key(id)).arg("here").arg("EX").arg(TTL.as_secs());
                // The next renewal may succeed.
                drop(self.run::<()>(&set).await);
                sleep(TTL / 3).await;
            },
        }
    }

    async fn follow(&self, seen: &RefCell<BTreeSet<String>>) {
        loop {
            // Without an answer the caller keeps the last one.
            if let Ok(listed) = self.listed().await {
                *seen.borrow_mut() = listed;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Target {
    fn parse(url: &str) -> Result<Self> {
        let Some(hosts) = url.strip_prefix("redis+cluster://") else {
            return Ok(Self::Redis(RedisTarget::parse(url)?));
        };
        let client = ClusterClient::builder(hosts.split(',').map(|host| format!("redis://{host}")))
            .connection_timeout(STEP_TIMEOUT)
            .response_timeout(STEP_TIMEOUT);
        Ok(Self::Cluster(Box::new(client.build()?)))
    }
}

impl Connection {
    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}
