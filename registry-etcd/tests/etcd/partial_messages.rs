//! Connections that break in the middle of a request or a reply.

use crate::support::{claim, instance, name, next, put, within};
use registry_core::{CallOptions, Claim, ErrorKind, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testbed::servers::Etcd;

/// Breaks a registration with `fault`, repeats it, and asserts that it was made once. Returns whether the
/// fault was hit.
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
        .expect("the retry uses a new connection");
    assert_eq!(lease.id(), claim.lease());

    // It was registered at one revision, despite the retry.
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    let now = within(direct.load(&name(id), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(now.instances().len(), 1);
    assert_eq!(watch.cursor().revision(), lease.revision());
    within(direct.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes.len(), 1, "and there was no other change");
    broken.is_err()
}

async fn connect_to(address: &str) -> EtcdRegistry {
    let url = format!("etcd://{address}").parse().unwrap();
    within(EtcdRegistry::connect(&url)).await.unwrap()
}

/// Breaks connections after more and more bytes, until none breaks. A registration takes about 1,500 bytes,
/// without those of a new connection.
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
    assert!(broken > 0 && whole > 0, "both cases must occur: {broken} broken, {whole} whole");
}

#[tokio::test]
async fn retry_after_a_partial_request_registers_once() {
    break_connections_until_none_breaks(|bytes| Fault::CutRequestsAfter { bytes }).await;
}

#[tokio::test]
async fn retry_after_a_partial_reply_registers_once() {
    break_connections_until_none_breaks(|bytes| Fault::CutAfter { bytes }).await;
}
