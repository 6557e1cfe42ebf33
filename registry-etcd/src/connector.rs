//! The connector for etcd URLs.

use crate::EtcdRegistry;
use async_trait::async_trait;
use registry_core::{ConnectOptions, Connected, Connector, Result, Target};
use std::sync::Arc;

/// A connector for `etcd://`, and with the feature `tls` for `etcds://`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EtcdConnector;

#[async_trait]
impl Connector for EtcdConnector {
    fn schemes(&self) -> &[&str] {
        if cfg!(feature = "tls") { &["etcd", "etcds"] } else { &["etcd"] }
    }

    async fn connect(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        Ok(connected(EtcdRegistry::connect(&options.in_path(target)?).await?))
    }

    fn connect_lazy(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        Ok(connected(EtcdRegistry::connect_lazy(&options.in_path(target)?)?))
    }
}

fn connected(registry: EtcdRegistry) -> Connected {
    let registry = Arc::new(registry);
    Connected::new(registry.clone()).with_diagnose(registry)
}
