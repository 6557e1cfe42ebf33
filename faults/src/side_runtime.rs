//! A runtime of its own, on which handles are made, and which is shut down while others use them.

use crate::owner::Owner;
use crate::servers::connect;
use anyhow::{Context, Result};
use registry_core::{Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The service of the owners on it. On Redis it shares a shard with the service that is looked at.
const SERVICE: &str = "side-27.rpc";

/// A runtime with a thread of its own.
#[derive(Debug)]
pub(crate) struct SideRuntime {
    runtime: Option<Runtime>,
    /// The tasks that use the handles.
    users: Vec<JoinHandle<()>>,
}

impl SideRuntime {
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime: Some(runtime), users: Vec::new() })
    }

    /// Connects to a store, and uses the handle on this runtime until that is shut down: for a view, and for a
    /// registration.
    pub(crate) async fn connect(&mut self, url: &str) -> Result<Arc<dyn Registry>> {
        let runtime = self.runtime.as_ref().context("the runtime is shut down")?;
        let (sender, connected) = oneshot::channel();
        let (url, id) = (url.to_owned(), format!("side-{}", self.users.len()));
        self.users.push(runtime.spawn(async move {
            let (outcome, _used) = match used(&url, &id).await {
                Ok((registry, used)) => (Ok(registry), Some(used)),
                Err(error) => (Err(error), None),
            };
            // It fails only if the run has ended.
            sender.send(outcome).ok();
            pending::<()>().await;
        }));
        connected.await.context("the runtime is shut down")?
    }

    /// Shuts it down. Returns how many handles were used on it until then.
    pub(crate) async fn shut_down(&mut self) -> usize {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let mut ended = 0;
        for user in self.users.drain(..) {
            ended += usize::from(user.await.is_err_and(|error| error.is_cancelled()));
        }
        ended
    }
}

impl Drop for SideRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn used(url: &str, id: &str) -> Result<(Arc<dyn Registry>, impl Send)> {
    const READY_WITHIN: Duration = Duration::from_secs(20);
    let (registry, service) = (connect(url).await?, SERVICE.parse::<ServiceName>()?);
    let owner = Owner::start(registry.clone(), &service, id).await?;
    let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
    let view = discovery.view(&service);
    view.ready(READY_WITHIN).await.context("a view on the other runtime is not ready")?;
    Ok((registry, (owner, view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_owners_share_the_shard_of_the_service() {
        assert_eq!(crate::spread::key_of(&SERVICE.parse().unwrap()), crate::servers::KEY);
    }
}
