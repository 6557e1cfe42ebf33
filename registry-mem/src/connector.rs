//! The connector for `mem://` URLs, and the diagnosis of a memory store.

use crate::MemRegistry;
use async_trait::async_trait;
use registry_core::diagnosis::{Finding, self_test};
use registry_core::{ConnectOptions, Connected, Connector, Diagnose, Result, Target};
use std::sync::Arc;

/// A connector for `mem://`, which is a new registry each time, and `mem://name`, which is shared within the
/// process.
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
