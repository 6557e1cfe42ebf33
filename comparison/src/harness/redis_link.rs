//! A connection of the raw client to Redis, which is replaced after a failure.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisResult};
use registry_testbed::servers::RedisSentinel;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// A lazy connection to the server of a URL. Clones share it.
#[derive(Clone)]
pub struct RedisLink {
    target: Target,
    /// The timeout to connect to one server, and the timeout of its responses.
    patience: Duration,
    open: Rc<RefCell<Option<Connection>>>,
}

#[derive(Clone)]
enum Target {
    Direct(Box<Client>),
    /// The URLs of the sentinels.
    Sentinel(Vec<String>),
    Cluster(Rc<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl RedisLink {
    /// Parses a URL with the scheme `redis`, `redis+sentinel` or `redis+cluster`.
    pub fn new(url: &str, patience: Duration) -> Result<Self> {
        let urls = |hosts: &str| hosts.split(',').map(|host| format!("redis://{host}")).collect();
        let target = if let Some(rest) = url.strip_prefix("redis+sentinel://") {
            Target::Sentinel(urls(rest.split_once('/').context("the URL names no primary")?.0))
        } else if let Some(hosts) = url.strip_prefix("redis+cluster://") {
            let nodes: Vec<String> = urls(hosts);
            let client = ClusterClient::builder(nodes)
                .connection_timeout(patience)
                .response_timeout(patience);
            Target::Cluster(Rc::new(client.build()?))
        } else {
            Target::Direct(Box::new(Client::open(url)?))
        };
        Ok(Self { target, patience, open: Rc::default() })
    }

    /// Returns a client of the current server.
    pub async fn client(&self) -> Result<Client> {
        match &self.target {
            Target::Direct(client) => Ok(Client::clone(client)),
            Target::Sentinel(urls) => {
                let (urls, name) = (urls.clone(), RedisSentinel::NAME.to_owned());
                let primary = SentinelServerType::Master;
                Ok(SentinelClient::build(urls, name, None, primary)?.async_get_client().await?)
            }
            Target::Cluster(_) => anyhow::bail!("a cluster has no single server"),
        }
    }

    pub async fn pipe<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T> {
        self.with(async |connection| match connection {
            Connection::Single(single) => pipe.query_async(single).await,
            Connection::Cluster(cluster) => pipe.query_async(cluster).await,
        })
        .await
    }

    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.with(async |connection| match connection {
            Connection::Single(single) => command.query_async(single).await,
            Connection::Cluster(cluster) => command.query_async(cluster).await,
        })
        .await
    }

    /// Sends a request. Its timeout is ten times that of one server, because the search for the primary may time out.
    async fn with<T>(&self, request: impl AsyncFn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        let open = self.open.borrow_mut().take();
        let answer = async {
            let mut connection = match open {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = request(&mut connection).await?;
            *self.open.borrow_mut() = Some(connection);
            anyhow::Ok(answer)
        };
        timeout(self.patience * 10, answer).await.context("no response")?
    }

    async fn connect(&self) -> Result<Connection> {
        if let Target::Cluster(client) = &self.target {
            return Ok(Connection::Cluster(client.get_async_connection().await?));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            .set_response_timeout(Some(self.patience));
        let client = self.client().await?;
        let single = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Connection::Single(single))
    }
}
