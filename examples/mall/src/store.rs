//! The registry of the mall.

use anyhow::Result;
use service_registry::store::Target;
use service_registry::{Client, View};
use std::time::Duration;

/// How long a killed server stays listed, unless the URL sets a ttl.
const TTL: Duration = Duration::from_secs(3);

/// A registry.
#[derive(Clone)]
pub(crate) struct Store {
    url: String,
    target: Target,
    /// How long a killed server stays listed.
    pub(crate) ttl: Duration,
    /// Keeps a registry in memory alive.
    _client: Client,
}

impl Store {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let target: Target = url.parse()?;
        let ttl = target.ttl().unwrap_or(TTL);
        // Lazily, because the server may not answer yet.
        Ok(Self { url: url.to_owned(), target, ttl, _client: Client::builder(url).connect_lazy()? })
    }

    /// Returns a new connection, as a separate process would have.
    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(&self.url, self.ttl).await
    }

    /// Returns a view of `service` over a new connection.
    pub(crate) async fn view(&self, service: &str) -> Result<View> {
        let view = self.connect().await?.discover(service)?;
        view.ready(Duration::from_secs(10)).await?;
        Ok(view)
    }

    /// Returns whether other processes cannot reach it.
    pub(crate) fn is_private(&self) -> bool {
        self.target.scheme() == "mem"
    }

    /// Returns the URL for another process. It may contain a password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL without the password, for printing.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

async fn connect(url: &str, ttl: Duration) -> Result<Client> {
    Ok(Client::builder(url).ttl(ttl).connect().await?)
}
