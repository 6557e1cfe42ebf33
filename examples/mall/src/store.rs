//! The registry of the mall.

use anyhow::Result;
use service_registry::store::Target;
use service_registry::{Client, View};
use std::time::Duration;

/// How long a server that died is listed, unless the URL says.
const TTL: Duration = Duration::from_secs(3);

/// A registry, by its URL.
#[derive(Clone)]
pub(crate) struct Store {
    url: String,
    target: Target,
    /// How long a server that died is listed.
    pub(crate) ttl: Duration,
    /// Keeps what is in the memory of this process.
    _client: Client,
}

impl Store {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let target: Target = url.parse()?;
        let ttl = target.ttl().unwrap_or(TTL);
        // Lazily: it may be a while until a server answers.
        Ok(Self { url: url.to_owned(), target, ttl, _client: Client::builder(url).connect_lazy()? })
    }

    /// Returns a connection of its own, as a process has it.
    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(&self.url, self.ttl).await
    }

    /// Returns a view of `service`, over a connection of its own.
    pub(crate) async fn view(&self, service: &str) -> Result<View> {
        let view = self.connect().await?.discover(service)?;
        view.ready(Duration::from_secs(10)).await?;
        Ok(view)
    }

    /// Whether it is this process's alone.
    pub(crate) fn is_private(&self) -> bool {
        self.target.scheme() == "mem"
    }

    /// For a process that is to share it. It may hold a password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// For people.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

async fn connect(url: &str, ttl: Duration) -> Result<Client> {
    Ok(Client::builder(url).ttl(ttl).connect().await?)
}
