//! From a URL to what is right and what is wrong with its store: one match.

use crate::connect::not_built_in;
use crate::diagnosis::Finding;
use crate::{Result, Target};

/// Looks for what is wrong with the registry that `url` names: whether it answers, what these
/// credentials may do, how its servers are set up, and what lies there that no registry put there.
///
/// What cannot be connected to is a finding like any other. For a moment there is an instance of
/// the service `~doctor`. All that is under the prefix is read.
pub async fn diagnose(url: &str) -> Vec<Finding> {
    let findings = examine(url).await;
    findings.unwrap_or_else(|error| vec![Finding::failed("connect", &error)])
}

async fn examine(url: &str) -> Result<Vec<Finding>> {
    let target: Target = url.parse()?;
    match target.scheme() {
        #[cfg(feature = "mem")]
        "mem" => Ok(registry_mem::MemRegistry::connect(&target)?.diagnose().await),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(registry_etcd::EtcdRegistry::connect(&target).await?.diagnose().await),
        #[cfg(all(feature = "etcd", feature = "tls"))]
        "etcds" => Ok(registry_etcd::EtcdRegistry::connect(&target).await?.diagnose().await),
        #[cfg(feature = "redis")]
        "redis" | "redis+sentinel" | "redis+cluster" => {
            Ok(registry_redis::RedisRegistry::connect(&target).await?.diagnose().await)
        }
        #[cfg(all(feature = "redis", feature = "tls"))]
        "rediss" | "rediss+sentinel" | "rediss+cluster" => {
            Ok(registry_redis::RedisRegistry::connect(&target).await?.diagnose().await)
        }
        scheme => Err(not_built_in(scheme)),
    }
}
