//! What all verbs share: which registry, how long to wait for it, and how to print.

use crate::output::Output;
use service_registry::store::{Registry, Secret};
use service_registry::{Client, Error, ErrorKind, Result, connect};
use std::sync::Arc;
use std::time::Duration;

/// Names the registry. It is not `REGISTRY_URL`, which services read: what `run` runs keeps its own.
pub(crate) const URL_VARIABLE: &str = "REGISTRYCTL_URL";

pub(crate) struct Session {
    /// It may hold a password.
    url: Secret,
    timeout: Duration,
    output: Output,
}

impl Session {
    pub(crate) fn new(url: Secret, timeout: Duration, json: bool) -> Self {
        Self { url, timeout, output: Output::new(json) }
    }

    pub(crate) fn url(&self) -> &str {
        self.url.reveal()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn output(&self) -> Output {
        self.output
    }

    pub(crate) async fn connect(&self) -> Result<Arc<dyn Registry>> {
        Ok(self.in_time(connect(self.url())).await?.registry().clone())
    }

    /// Returns a handle to a registry that is down, which connects once it answers.
    pub(crate) fn connect_lazy(&self) -> Result<Arc<dyn Registry>> {
        Ok(Client::builder(self.url()).connect_lazy()?.registry().clone())
    }

    /// Waits for an answer no longer than was asked for.
    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.timeout;
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = format!("the registry did not answer in time, timeout=`{limit:?}`");
            Err(Error::new(ErrorKind::Unavailable, message))
        })
    }
}
