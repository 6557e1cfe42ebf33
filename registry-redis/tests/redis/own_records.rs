//! Registrations of a process whose shard is wiped.

use crate::support::{Operator, ids, instance, registry, server, within};
use registry_engine::{Registration, RegistrationOptions};
use registry_testkit::lag::tolerating;
use std::sync::Arc;
use std::time::Duration;

/// An owner registers again within the return bound, here 5 s, even if it is not among the first eight of its
/// service.
#[test]
fn wiped_records_are_registered_again_within_the_return_bound() {
    tolerating(Duration::from_secs(2), async |_| {
        let server = server(&[]).await;
        let mut operator = Operator::of(&server).await;
        let registry = registry(&server).await;
        let ttl = Some(Duration::from_secs(60));
        let options = RegistrationOptions::default().with_ttl(ttl);
        let mut registrations = Vec::new();
        let shared = Arc::new(registry.clone());
        for n in 0..20 {
            let one = instance("user.rpc", &format!("{n:02}"));
            let start = Registration::start(shared.clone(), one, options.clone());
            registrations.push(within(start).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // the watches are open
        operator.run::<()>("FLUSHALL").await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let listed = ids(&registry, "user.rpc").await;
        assert_eq!(listed.len(), 20, "{listed:?}");
    });
}
