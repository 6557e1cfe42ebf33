//! Tests of balancing: which of the connected instances gets the calls.

use crate::support::{
    Backend, DEADLINE, Fixture, Mode, call, calls, instance, until_called, until_calls_go_to,
};
use futures_util::future::join_all;
use registry_core::{Address, CallOptions, Registry};
use registry_testkit::lag::{timeout, tolerating};
use registry_tonic::{Channel, ChannelOptions, Ejection};
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic_health::pb::health_client::HealthClient;

fn start_backends(count: usize) -> Vec<Backend> {
    (0..count).map(|_| Backend::start()).collect()
}

#[tokio::test]
async fn slow_instance_is_avoided_even_after_the_view_changes() {
    let backends = start_backends(3);
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].set(Mode::Delay(Duration::from_secs(1)));
    until_called(&client, &backends[0], 1).await;
    let before = backends[0].calls();
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before);

    // Weight and metadata of every instance change.
    for (id, backend) in backends.iter().enumerate() {
        let changed = instance(id, backend).with_weight(50).with_metadata([("version", "2")]);
        fixture.put(changed).await;
    }
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before);
    assert!(backends.iter().all(|backend| backend.connections() == 1));
}

/// Starts two backends. The first has just been ejected for `base`; the second is so slow that the first would
/// be preferred without the ejection.
async fn one_ejected_of_two(base: Duration) -> (Fixture, HealthClient<Channel>, Vec<Backend>) {
    let backends = start_backends(2);
    let fixture = Fixture::new();
    fixture.put(instance(0, &backends[0])).await;
    // Each failure makes the first look three times as slow. After two failures it still looks faster than the second.
    let ejection = Some(Ejection::default().with_failures(2).with_base(base).with_max(base));
    let client = fixture.client(ChannelOptions::default().with_ejection(ejection));
    calls(&client, 1).await;
    backends[0].set(Mode::Fail(Code::Internal));
    for _ in 0..2 {
        call(&client).await.unwrap_err(); // the only endpoint is not ejected
    }
    backends[1].set(Mode::Delay(Duration::from_secs(1)));
    fixture.put(instance(1, &backends[1])).await;
    backends[1].until_connected(1).await;
    until_called(&client, &backends[1], 1).await;
    // The first is no longer the only endpoint, so its next call ejects it, unless that call was made already.
    let _ = call(&client).await;
    (fixture, client, backends)
}

#[tokio::test]
async fn ejected_instance_gets_no_calls_even_if_the_others_are_slow() {
    let (_fixture, client, backends) = one_ejected_of_two(Duration::from_secs(60)).await;
    let before = backends[0].calls();
    calls(&client, 5).await;
    assert_eq!(backends[0].calls(), before);
}

#[tokio::test]
async fn ejected_instance_is_probed_and_serves_again() {
    let (_fixture, client, backends) = one_ejected_of_two(Duration::from_millis(300)).await;
    backends[0].set(Mode::Serve);
    until_called(&client, &backends[0], 5).await;
}

#[tokio::test]
async fn instance_that_fails_its_probe_is_not_preferred_while_the_ejection_limit_is_reached() {
    let backends = start_backends(3);
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    // Of three, only one may be ejected at a time. A slow machine takes longer for the calls and so makes more probes.
    let base = Duration::from_millis(400);
    let ejection = Some(Ejection::default().with_failures(2).with_base(base).with_max(base));
    let client = fixture.client(ChannelOptions::default().with_ejection(ejection));
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].set(Mode::Fail(Code::Internal));
    backends[1].set(Mode::Fail(Code::Internal));
    let mut failed = 0;
    for _ in 0..2_000 {
        failed += u32::from(call(&client).await.is_err());
    }
    // If the failed instance were preferred, a third of the calls or more would fail.
    assert!((4..250).contains(&failed), "{failed}");
}

#[test]
fn hanging_instance_is_avoided_after_its_calls_time_out() {
    tolerating(Duration::from_secs(1), async |_| {
        let backends = start_backends(3);
        let fixture = Fixture::new();
        fixture.put_all(&backends).await;
        let limit = Some(Duration::from_secs(2));
        let client = fixture.client(ChannelOptions::default().with_timeout(limit));
        until_calls_go_to(&client, &backends, |_| true).await;
        backends[0].set(Mode::Hang);
        let (before, mut failed) = (backends[0].calls(), Vec::new());
        let reaches_the_backend = async {
            // If the backend was slow just now, it gets no call for a second.
            while backends[0].calls() == before {
                failed.extend(call(&client).await.err());
            }
        };
        timeout(DEADLINE, reaches_the_backend).await.expect("the hanging backend gets no call");
        for _ in 0..200 {
            failed.extend(call(&client).await.err());
        }
        assert!((1..=5).contains(&failed.len()), "{failed:?}");
        assert!(failed.iter().all(|status| status.code() == Code::DeadlineExceeded), "{failed:?}");
        assert!(backends[1].last_metadata().get("grpc-timeout").is_some(), "no timeout was sent");
    });
}

#[tokio::test]
async fn own_zone_is_preferred_while_half_of_it_is_connected() {
    let mut backends = start_backends(5);
    let fixture = Fixture::new();
    for (id, backend) in backends.iter().enumerate() {
        let zone = if id < 3 { "near" } else { "far" };
        let instance = instance(id, backend);
        // Records of other programs have their zone in the metadata. The instance's own zone takes precedence.
        let instance = match id {
            1 => instance.with_metadata([("zone", zone)]),
            2 => instance.with_metadata([("zone", "other")]).with_zone(zone),
            _ => instance.with_zone(zone),
        };
        fixture.put(instance).await;
    }
    let options = ChannelOptions::default().with_zone("near");
    let client = fixture.client(options);
    for backend in &backends {
        backend.until_connected(1).await;
    }
    until_calls_go_to(&client, &backends, |n| n < 3).await;
    backends[0].kill();
    until_calls_go_to(&client, &backends, |n| n == 1 || n == 2).await;
    backends[1].kill();
    until_calls_go_to(&client, &backends, |n| n >= 2).await; // one of three is less than half
    backends[2].kill();
    until_calls_go_to(&client, &backends, |n| n >= 3).await;
}

#[tokio::test]
async fn client_with_a_subset_connects_to_no_other_instance() {
    let backends = start_backends(8);
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let subset = NonZeroUsize::new(3);
    let options = ChannelOptions::default().with_subset(subset).with_client("me");
    let client = fixture.client(options.clone());
    calls(&client, 200).await;
    let chosen: Vec<u32> = backends.iter().map(Backend::connections).collect();
    assert_eq!(chosen.iter().sum::<u32>(), 3, "{chosen:?}");

    // Another channel with the same client name chooses the same subset.
    let again = fixture.client(options);
    calls(&again, 200).await;
    let twice: Vec<u32> = backends.iter().map(Backend::connections).collect();
    assert_eq!(twice, chosen.iter().map(|count| count * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn instances_at_one_address_share_an_endpoint() {
    let backends = start_backends(2);
    let fixture = Fixture::new();
    fixture.put(instance(0, &backends[0])).await;
    let double = fixture.put(instance(1, &backends[0])).await;
    fixture.put(instance(2, &backends[1])).await;
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    fixture.registry.deregister(&double, &CallOptions::DEFAULT).await.unwrap();
    calls(&client, 50).await;
    until_calls_go_to(&client, &backends, |_| true).await;
    assert_eq!((backends[0].connections(), backends[1].connections()), (1, 1));
}

#[tokio::test]
async fn metadata_of_the_options_is_sent_unless_the_call_sets_the_key() {
    let backends = start_backends(1);
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let mut metadata = MetadataMap::new();
    metadata.insert("app", "shop".parse().unwrap());
    metadata.insert("token", "s3cret".parse().unwrap());
    let options = ChannelOptions::default().with_metadata(metadata);
    assert!(!format!("{options:?}").contains("s3cret"));
    let mut client = fixture.client(options);
    let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
    request.metadata_mut().insert("app", "other".parse().unwrap());
    timeout(DEADLINE, client.check(request)).await.unwrap().unwrap();
    let metadata = backends[0].last_metadata();
    assert_eq!(metadata.get("app").unwrap(), "other");
    assert_eq!(metadata.get("token").unwrap(), "s3cret");
}

#[test]
fn calls_fail_at_their_deadline_while_their_connection_is_full() {
    tolerating(Duration::from_secs(10), async |lag| {
        let fixture = Fixture::new();
        let backend = Backend::start();
        fixture.put(instance(1, &backend).with_address(mute_server().await)).await;
        let timeout = Duration::from_secs(1);
        let options = ChannelOptions::default().with_timeout(timeout);
        let client = fixture.client(options);
        // The server takes 200 calls, and tonic's channel queues 1,024 more.
        let deadline = lag.deadline(timeout * 3 / 2);
        for outcome in join_all((0..3_000).map(|_| call(&client))).await {
            let status = outcome.unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
        deadline.assert_met();
    });
}

/// Starts a server that takes 200 calls at once and answers none. A [`Backend`] would not do: it also enforces
/// the deadline, and answers with another status if it is first.
async fn mute_server() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut server = h2::server::Builder::new();
        // All calls are cancelled at once, which h2 would otherwise treat as an attack.
        server.max_concurrent_streams(200).max_pending_accept_reset_streams(usize::MAX);
        let mut connection = server.handshake::<_, &[u8]>(socket).await.unwrap();
        let mut calls = Vec::new();
        while let Some(Ok(call)) = connection.accept().await {
            calls.push(call);
        }
    });
    address.to_string().parse().unwrap()
}
