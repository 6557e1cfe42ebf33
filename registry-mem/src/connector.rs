//! How a `mem://` URL becomes a registry, and its checks: the rehearsal covers all of it.

use crate::MemRegistry;
use async_trait::async_trait;
use registry_core::diagnosis::{Finding, self_test};
use registry_core::{ConnectOptions, Connected, Connector, Diagnose, Result, Target};
use std::sync::Arc;

/// Connects to `mem://`: a new registry each time, `mem://name` the same one for all of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemConnector;

#[async_trait]
impl Connector for MemConnector {
    fn schemes(&self) -> &[&str] {
        &["mem"]
    }

    async fn connect(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        self.connect_lazy(target, options)
    }

    fn connect_lazy(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        let registry = Arc::new(MemRegistry::connect(&options.in_path(target)?)?);
        Ok(Connected::new(registry.clone()).with_diagnose(registry))
    }
}

#[async_trait]
impl Diagnose for MemRegistry {
    /// Rehearses a registration. There is no server to check.
    async fn diagnose(&self) -> Vec<Finding> {
        self_test(self).await
    }
}
