//! A separate runtime, which creates handles and is shut down while others use them.

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

/// The service of the owners on this runtime. On Redis it shares the shard of the observed service.
const SERVICE: &str = "side-27.rpc";

/// A runtime with its own thread.
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

    /// Connects to a store, and uses the handle on this runtime for a view and a registration until the shutdown.
    pub(crate) async fn connect(&mut self, url: &str) -> Result<Arc<dyn Registry>> {
        let runtime = self.runtime.as_ref().context("the runtime is shut down")?;
        let (sender, connected) = oneshot::channel();
        let (url, id) = (url.to_owned(), format!("side-{}", self.users.len()));
        self.users.push(runtime.spawn(async move {
            let (outcome, _users) = match use_handle(&url, &id).await {
                Ok((registry, users)) => (Ok(registry), Some(users)),
                Err(error) => (Err(error), None),
            };
            // The receiver is only dropped if the run has ended.
            sender.send(outcome).ok();
            pending::<()>().await;
        }));
        connected.await.context("the runtime is shut down")?
    }

    /// Shuts the runtime down, and returns how many handles it used until then.
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

/// Connects to a store, and starts a registration and a view that use the handle.
async fn use_handle(url: &str, id: &str) -> Result<(Arc<dyn Registry>, impl Send)> {
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
    fn the_service_shares_the_shard_of_the_observed_service() {
        assert_eq!(crate::neighbours::key_of(&SERVICE.parse().unwrap()), crate::servers::KEY);
    }
}
