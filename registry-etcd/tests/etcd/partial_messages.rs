//! A connection that breaks in the middle of a request, or of a reply.

use crate::support::{claim, instance, name, next, put, within};
use registry_core::{CallOptions, Claim, ErrorKind, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testbed::servers::Etcd;

/// Breaks a registration after so many bytes, repeats it, and sees that it was made once. Whether it broke.
async fn register_over(server: &Etcd, fault: Fault, id: &str) -> bool {
    let address = server.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(address.parse().unwrap()).await.unwrap();
    let (through, direct) =
        (connect_to(&proxy.address().to_string()).await, connect_to(&address).await);
    let before = within(direct.load(&name(id), &CallOptions::DEFAULT)).await.unwrap();
    let mut watch =
        within(direct.watch(&name(id), before.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    let (one, claim): (_, Claim) = (instance(id, "1"), claim(10));

    proxy.inject(fault);
    let broken = within(through.register(&one, &claim, &CallOptions::DEFAULT)).await;
    let hits = proxy.hits();
    let was_hit = hits.half_requests + hits.half_replies > 0;
    match &broken {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
            assert!(was_hit, "{fault:?}: {error}");
        }
    }
    proxy.heal();
    let lease = within(through.register(&one, &claim, &CallOptions::DEFAULT))
        .await
        .expect("a repeat is made on a new link");
    assert_eq!(lease.id(), claim.lease());

    // It was made at one revision, whatever was repeated.
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    let now = within(direct.load(&name(id), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(now.instances().len(), 1);
    assert_eq!(watch.cursor().revision(), lease.revision());
    within(direct.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes.len(), 1, "and nothing was in between");
    broken.is_err()
}

async fn connect_to(address: &str) -> EtcdRegistry {
    let url = format!("etcd://{address}").parse().unwrap();
    within(EtcdRegistry::connect(&url)).await.unwrap()
}

/// Breaks connections after ever more bytes, until nothing breaks any more. A registration takes some
/// 1,500, those of a new connection apart.
async fn break_connections_until_none_breaks(fault: impl Fn(usize) -> Fault) {
    let server = within(Etcd::start()).await.unwrap();
    let (mut broken, mut whole) = (0, 0);
    for (n, bytes) in (0..3000).step_by(37).enumerate() {
        if register_over(&server, fault(bytes), &format!("service-{n}")).await {
            broken += 1;
        } else {
            whole += 1;
        }
    }
    assert!(broken > 0 && whole > 0, "both are seen: {broken} broken, {whole} whole");
}

#[tokio::test]
async fn repeat_after_a_partial_request_registers_once() {
    break_connections_until_none_breaks(|bytes| Fault::CutRequestsAfter { bytes }).await;
}

#[tokio::test]
async fn repeat_after_a_partial_reply_registers_once() {
    break_connections_until_none_breaks(|bytes| Fault::CutAfter { bytes }).await;
}
