//! The connector for Redis URLs.

use crate::RedisRegistry;
use async_trait::async_trait;
use registry_core::{ConnectOptions, Connected, Connector, Result, Target};
use std::sync::Arc;

const PLAIN: [&str; 3] = ["redis", "redis+sentinel", "redis+cluster"];
const TLS: [&str; 6] =
    [PLAIN[0], PLAIN[1], PLAIN[2], "rediss", "rediss+sentinel", "rediss+cluster"];

/// A connector for `redis://`, `redis+sentinel://` and `redis+cluster://`, and with the feature `tls` for
/// `rediss://`, `rediss+sentinel://` and `rediss+cluster://`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisConnector;

#[async_trait]
impl Connector for RedisConnector {
    fn schemes(&self) -> &[&str] {
        if cfg!(feature = "tls") { &TLS } else { &PLAIN }
    }

    async fn connect(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        Ok(connected(RedisRegistry::connect(&options.in_option("prefix", target)?).await?))
    }

    fn connect_lazy(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        Ok(connected(RedisRegistry::connect_lazy(&options.in_option("prefix", target)?)?))
    }
}

fn connected(registry: RedisRegistry) -> Connected {
    let registry = Arc::new(registry);
    Connected::new(registry.clone()).with_diagnose(registry)
}
