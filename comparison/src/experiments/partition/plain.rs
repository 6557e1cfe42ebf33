//! What people write by hand over a Redis that may fail over, with the clients that the `redis` crate has for it.

use super::clients::{Client, TTL};
use crate::observers::reach::Reach;
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

/// How long one server may take to be reached, and to answer.
const STEP_WITHIN: Duration = Duration::from_millis(300);

/// How long all of it may take: to look for the right one among several of which one is silent, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How often who wants to know reads everything.
const POLL: Duration = Duration::from_millis(50);

/// How instances are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a hash, once.
    Hash,
    /// As keys with a ttl that are set again and again.
    Keys,
}

/// A client of a plain Redis.
pub(super) struct Plain {
    kind: Kind,
    way: Way,
    /// Where to go once that is so.
    later: Option<(Arc<AtomicBool>, Way)>,
    connection: RefCell<Option<Connection>>,
}

enum Way {
    Reach(Reach),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Plain {
    /// With the servers that a URL names.
    pub(super) fn open(kind: Kind, url: &str) -> Result<Self> {
        Ok(Self { kind, way: Way::parse(url)?, later: None, connection: RefCell::default() })
    }

    /// With others later.
    pub(super) fn and_later(self, is_later: Arc<AtomicBool>, url: &str) -> Result<Self> {
        Ok(Self { later: Some((is_later, Way::parse(url)?)), ..self })
    }

    /// A connection that failed is not used again.
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
        timeout(ANSWER_WITHIN, answer).await.context("no answer")?
    }

    async fn connect(&self) -> Result<Connection> {
        let later = self.later.as_ref().filter(|(is_later, _)| is_later.load(Ordering::Relaxed));
        Ok(match later.map_or(&self.way, |(_, way)| way) {
            Way::Reach(reach) => {
                let client = reach.client().await?;
                let hasty = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(STEP_WITHIN))
                    .set_response_timeout(Some(STEP_WITHIN));
                Connection::Single(
                    client.get_multiplexed_async_connection_with_config(&hasty).await?,
                )
            }
            Way::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }

    /// Where the registry's shard is, so that both are hit.
    fn key(id: &str) -> String {
        format!("{{registry/15}}:plain:{id}")
    }
}

#[async_trait(?Send)]
impl Client for Plain {
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

    async fn keep(&self, id: &str) -> Result<Infallible> {
        match self.kind {
            Kind::Hash => {
                while self.register(id).await.is_err() {
                    sleep(POLL).await;
                }
                pending().await
            }
            Kind::Keys => loop {
                let mut set = redis::cmd("SET");
                set.arg(Self::key(id)).arg("here").arg("EX").arg(TTL.as_secs());
                // The next time it may work.
                drop(self.run::<()>(&set).await);
                sleep(TTL / 3).await;
            },
        }
    }

    async fn follow(&self, seen: &RefCell<BTreeSet<String>>) {
        loop {
            // Without an answer the last one stands.
            if let Ok(listed) = self.listed().await {
                *seen.borrow_mut() = listed;
            }
            sleep(POLL).await;
        }
    }
}

impl Way {
    fn parse(url: &str) -> Result<Self> {
        let Some(hosts) = url.strip_prefix("redis+cluster://") else {
            return Ok(Self::Reach(Reach::parse(url)?));
        };
        let client = ClusterClient::builder(hosts.split(',').map(|host| format!("redis://{host}")))
            .connection_timeout(STEP_WITHIN)
            .response_timeout(STEP_WITHIN);
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
