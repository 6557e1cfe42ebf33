//! How a Redis is reached that is used as it is.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Pipeline};
use registry_testbed::servers::RedisSentinel;
use std::time::Duration;

/// How long a server may take to answer a writer. Some are kept busy on purpose.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where it is found.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// Where it is.
    Straight(Box<Client>),
    /// Where these sentinels say that the primary is.
    Sentinels(Vec<String>),
}

/// A connection that is made anew after a failure.
pub(super) struct Line {
    reach: Reach,
    open: Option<MultiplexedConnection>,
}

impl Reach {
    /// By a URL, `redis://` or `redis+sentinel://`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("redis+sentinel://") else {
            return Ok(Self::Straight(Box::new(Client::open(url)?)));
        };
        let (hosts, _name) = rest.split_once('/').context("a primary has a name")?;
        Ok(Self::Sentinels(hosts.split(',').map(|host| format!("redis://{host}")).collect()))
    }

    /// A client of the server that it is now.
    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(match self {
            Self::Straight(client) => Client::clone(client),
            Self::Sentinels(urls) => {
                let (urls, name) = (urls.clone(), RedisSentinel::NAME.to_owned());
                let primary = SentinelServerType::Master;
                SentinelClient::build(urls, name, None, primary)?.async_get_client().await?
            }
        })
    }

    /// A connection that waits for its answers.
    async fn patient(&self) -> Result<MultiplexedConnection> {
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_WITHIN));
        let client = self.client().await?;
        Ok(client.get_multiplexed_async_connection_with_config(&patient).await?)
    }
}

impl Line {
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, open: None }
    }

    pub(super) async fn run(&mut self, pipe: &Pipeline) -> Result<()> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.reach.patient().await?,
        };
        pipe.exec_async(&mut connection).await?;
        self.open = Some(connection);
        Ok(())
    }
}
