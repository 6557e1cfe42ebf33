//! The diagnosis of an etcd for its operator.

mod history;
mod members;
mod records;
mod release;
mod survey;

use crate::EtcdRegistry;
use crate::runtimes::Connections;
use async_trait::async_trait;
use registry_core::Diagnose;
use registry_core::diagnosis::{Finding, check, self_test};

#[async_trait]
impl Diagnose for EtcdRegistry {
    /// Checks the members, their releases, space and history, and the keys under the path, and rehearses a
    /// registration.
    ///
    /// It reads all keys under the path. If there are none, it also reads the first 1,000 keys of the whole etcd, to
    /// find records in another layout. A check for which the credentials lack permission is a warning.
    async fn diagnose(&self) -> Vec<Finding> {
        let client = match self.runtimes.connections() {
            Ok(Connections { client, .. }) => client,
            Err(error) => return vec![Finding::from_error("runtime", &error)],
        };
        let (client, keyspace) = (&client, &self.keyspace);
        let rehearsed = self_test(self).await;
        let (members, history, records) = tokio::join!(
            check("members", members::diagnose(client)),
            check("history", history::diagnose(client, keyspace)),
            check("records", records::diagnose(client, keyspace)),
        );
        let clock = Finding::ok(
            "clock",
            "etcd does not report its time: leases run on the leader's clock, and restart when the leader changes",
        );
        [rehearsed, members, history, records, vec![clock]].concat()
    }
}
