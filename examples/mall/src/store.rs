//! The registry of the mall.

use anyhow::Result;
use service_registry::{Discovery, DiscoveryOptions, Registry, ServiceName, Target, View, connect};
use std::sync::Arc;
use std::time::Duration;

/// How long a server that died is listed, unless the URL says.
const TTL: Duration = Duration::from_secs(3);

/// A registry, by its URL.
#[derive(Clone)]
pub(crate) struct Store {
    url: String,
    target: Target,
    /// What is in the memory of this process cannot be had by its URL again.
    memory: Option<Arc<dyn Registry>>,
}

impl Store {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let target: Target = url.parse()?;
        let memory = if target.scheme() == "mem" {
            Some(connect(url).await?.registry().clone())
        } else {
            None
        };
        Ok(Self { url: url.to_owned(), target, memory })
    }

    /// A connection of one's own, as a process has it.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn Registry>> {
        match &self.memory {
            Some(memory) => Ok(memory.clone()),
            None => Ok(connect(&self.url).await?.registry().clone()),
        }
    }

    /// A view of `service`, over a connection of its own.
    pub(crate) async fn view(&self, service: &str) -> Result<View> {
        let service: ServiceName = service.parse()?;
        let options = DiscoveryOptions { ttl: Some(self.ttl()), ..DiscoveryOptions::default() };
        let mut view = Discovery::new(self.connect().await?, options).view(&service);
        view.ready(Duration::from_secs(10)).await?;
        Ok(view)
    }

    /// How long a server that died is listed.
    pub(crate) fn ttl(&self) -> Duration {
        self.target.ttl().unwrap_or(TTL)
    }

    /// Whether it is this process's alone.
    pub(crate) fn is_private(&self) -> bool {
        self.memory.is_some()
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
