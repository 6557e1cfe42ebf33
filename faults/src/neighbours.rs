//! Neighbours: other services, on all shards of Redis.

use crate::owner::Owner;
use crate::servers::connect;
use crate::tap::Tap;
use anyhow::Result;
use futures_util::future::try_join_all;
use registry_core::ServiceName;
use registry_engine::{Discovery, DiscoveryOptions};
use std::sync::Arc;

/// The number of neighbours: one per shard, so that each primary of a Cluster has some.
const SERVICES: u8 = 16;

/// A service with one instance, and a view of it.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) service: ServiceName,
    pub(crate) owner: Owner,
    pub(crate) tap: Arc<Tap>,
}

/// Starts the neighbours. All owners share a connection, and all views share another one.
pub(crate) async fn start_neighbours(
    url: &str,
    options: &DiscoveryOptions,
) -> Result<Vec<Neighbour>> {
    let (owners, views) = (connect(url).await?, connect(url).await?);
    let discovery = Discovery::new(views, options.clone());
    let starts = (0..SERVICES).map(async |n| {
        let service = name_of(n)?;
        let tap = Tap::start(discovery.view(&service));
        let owner = Owner::start(owners.clone(), &service, "only").await?;
        Ok(Neighbour { service, owner, tap })
    });
    try_join_all(starts).await
}

fn name_of(n: u8) -> Result<ServiceName> {
    Ok(format!("service-{n:02}").parse()?)
}

/// Returns a key of the shard of a service on Redis: FNV-1a of the name, modulo 16.
pub(crate) fn key_of(service: &ServiceName) -> String {
    const SHARDS: u64 = 16;
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{{registry/{:02}}}:log", hash % SHARDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_shard_has_a_service() {
        let keys = (0..SERVICES).map(|n| key_of(&name_of(n).unwrap()));
        assert_eq!(keys.collect::<BTreeSet<_>>().len(), usize::from(SERVICES));
    }

    #[test]
    fn the_key_constant_is_in_the_shard_of_the_service() {
        let service = crate::stage::SERVICE.parse().unwrap();
        assert_eq!(key_of(&service), crate::servers::KEY);
    }
}
