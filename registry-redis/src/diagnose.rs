//! The diagnosis of a registry for its operator.

mod server;
mod shards;

use crate::store::Store;
use registry_core::Registry;
use registry_core::diagnosis::{Finding, check, self_test};

/// Checks the shards, their records and the servers, and rehearses a registration with `registry`, which must
/// use `store`.
pub(crate) async fn diagnose(store: &Store, registry: &dyn Registry) -> Vec<Finding> {
    // The shards are checked first, since a load would repair a shard that lost a key.
    let shards = check("history", shards::check_shards(store)).await;
    let rehearsed = self_test(registry).await;
    let (records, servers) = tokio::join!(
        Box::pin(check("records", shards::check_records(store))),
        Box::pin(check("server", server::check_servers(&store.client))),
    );
    [rehearsed, servers, shards, records].concat()
}
