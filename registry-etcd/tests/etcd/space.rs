//! An etcd that is out of space: it accepts renewals, but no new registrations.

use crate::support::{Fixture, claim, deleted, instance, next, put, within};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, DeleteOptions};
use registry_core::ErrorKind;
use registry_testbed::servers::{Etcd, ServerOptions};

#[tokio::test]
async fn server_out_of_space_refuses_only_new_registrations() {
    let arguments = vec!["--quota-backend-bytes=4194304".to_owned()];
    let options = ServerOptions { url: None, arguments, ..Etcd::options() };
    let etcd = Fixture::over(within(Etcd::start_with(options)).await.unwrap(), "").await;
    let (one, two) = (instance("user", "1"), instance("user", "2"));
    let lease = etcd.register(&one, &claim(60)).await.unwrap();
    let other = etcd.register(&instance("order", "1"), &claim(60)).await.unwrap();
    let (mut watch, mut orders) = (etcd.watch("user").await, etcd.watch("order").await);
    let mut kv = etcd.raw.kv_client();
    let mut n = 0;
    let full = loop {
        n += 1;
        assert!(n < 100, "the quota was not reached by 100 times 500 kB");
        let bulk = vec![b'x'; 500_000];
        if let Err(error) = within(kv.put(format!("bulk/{n}"), bulk, None)).await {
            break error;
        }
    };
    assert!(full.to_string().contains("space exceeded"), "{full}");

    let error = etcd.register(&two, &claim(60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    etcd.keep_alive(&lease).await.expect("existing leases are renewed");
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one]);

    // Only the first step of a withdrawal is refused, the one that records the reason.
    etcd.deregister(&other).await.unwrap();
    assert_eq!(next(&mut orders).await.changes, [deleted("1")]);
    assert!(!etcd.leases().await.contains(&other.id().get()));

    within(kv.delete("bulk/", Some(DeleteOptions::new().with_prefix()))).await.unwrap();
    // Defragmentation frees only what was physically deleted.
    let physical = Some(CompactionOptions::new().with_physical());
    within(kv.compact(etcd.revision().await, physical)).await.unwrap();
    let mut maintenance = etcd.raw.maintenance_client();
    within(maintenance.defragment()).await.unwrap();
    let raised = maintenance.alarm(AlarmAction::Get, AlarmType::None, None);
    let member = within(raised).await.unwrap().alarms()[0].member_id();
    let mut of_it = AlarmOptions::new();
    of_it.with_member(member);
    let of_it = Some(of_it);
    within(maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, of_it)).await.unwrap();
    etcd.register(&two, &claim(60)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&two)], "the watch stayed open");
    etcd.deregister(&lease).await.unwrap();
}
