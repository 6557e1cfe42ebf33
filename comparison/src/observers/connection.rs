//! Connections of the raw client to a Redis.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Pipeline};
use registry_testbed::servers::RedisSentinel;
use std::time::Duration;

/// How long a server may take to answer a writer. Some are kept busy on purpose.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a Redis is found.
#[derive(Clone, Debug)]
pub(crate) enum RedisTarget {
    /// At a fixed address.
    Direct(Box<Client>),
    /// At the address of the primary that these sentinels name.
    Sentinel(Vec<String>),
}

/// A connection that is replaced after a failure.
pub(super) struct RedisConnection {
    target: RedisTarget,
    open: Option<MultiplexedConnection>,
}

impl RedisTarget {
    /// Parses a URL, `redis://` or `redis+sentinel://`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("redis+sentinel://") else {
            return Ok(Self::Direct(Box::new(Client::open(url)?)));
        };
        let (hosts, _name) = rest.split_once('/').context("a primary has a name")?;
        Ok(Self::Sentinel(hosts.split(',').map(|host| format!("redis://{host}")).collect()))
    }

    /// Returns a client of the current server.
    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(match self {
            Self::Direct(client) => Client::clone(client),
            Self::Sentinel(urls) => {
                let (urls, name) = (urls.clone(), RedisSentinel::NAME.to_owned());
                let primary = SentinelServerType::Master;
                SentinelClient::build(urls, name, None, primary)?.async_get_client().await?
            }
        })
    }

    /// Opens a connection with a response timeout for writers.
    async fn connect(&self) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = self.client().await?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

impl RedisConnection {
    pub(super) fn new(target: RedisTarget) -> Self {
        Self { target, open: None }
    }

    pub(super) async fn run(&mut self, pipe: &Pipeline) -> Result<()> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.target.connect().await?,
        };
        pipe.exec_async(&mut connection).await?;
        self.open = Some(connection);
        Ok(())
    }
}
