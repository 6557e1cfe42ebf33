//! What is wrong with an etcd, as its operator is told.

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
    /// Looks for what is wrong: with the members, their releases and their space, with the history
    /// that they hold, with what lies under the path; and rehearses a registration.
    ///
    /// It reads all that is under the path; where nothing is, also the first 1,000 keys of the
    /// whole etcd, for records in another layout. What these credentials may not ask is a warning.
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
            "etcd tells no time: leases run on its leader's clock, and anew when the leader changes",
        );
        [rehearsed, members, history, records, vec![clock]].concat()
    }
}
