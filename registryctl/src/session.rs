//! The settings that all verbs share: the registry, the timeout and the output.

use crate::output::Output;
use service_registry::store::{Registry, Secret};
use service_registry::{Client, Error, ErrorKind, Result, connect};
use std::sync::Arc;
use std::time::Duration;

/// The variable with the URL of the registry. Services read `REGISTRY_URL`, which the command of `run` may need itself.
pub(crate) const URL_VARIABLE: &str = "REGISTRYCTL_URL";

pub(crate) struct Session {
    /// It may contain a password.
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

    /// Returns a handle that connects on first use, for a registry that is down.
    pub(crate) fn connect_lazy(&self) -> Result<Arc<dyn Registry>> {
        Ok(Client::builder(self.url()).connect_lazy()?.registry().clone())
    }

    /// Waits for an answer for at most the timeout.
    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.timeout;
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = format!("the registry did not answer in time, timeout=`{limit:?}`");
            Err(Error::new(ErrorKind::Unavailable, message))
        })
    }
}
