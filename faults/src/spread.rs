//! Services beside the one that is looked at, spread over all shards of a Redis.

use crate::owner::Owner;
use crate::servers::connect;
use crate::tap::Tap;
use anyhow::Result;
use futures_util::future::try_join_all;
use registry_core::ServiceName;
use registry_engine::{Discovery, DiscoveryOptions};
use std::sync::Arc;

/// How many services there are: as many as shards, which leaves no primary of a Cluster without one.
const SERVICES: u8 = 16;

/// A service of one instance, and a view of it.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) service: ServiceName,
    pub(crate) owner: Owner,
    pub(crate) tap: Arc<Tap>,
}

/// Starts the services. One process has all of their owners, and another one all of their views.
pub(crate) async fn spread(url: &str, options: &DiscoveryOptions) -> Result<Vec<Neighbour>> {
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

/// Returns a key of the shard of a service on Redis, as the layout has it: FNV-1a of the name, modulo 16.
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
    fn the_shard_of_the_service_is_the_one_that_is_written_down() {
        let service = crate::stage::SERVICE.parse().unwrap();
        assert_eq!(key_of(&service), crate::servers::KEY);
    }
}
