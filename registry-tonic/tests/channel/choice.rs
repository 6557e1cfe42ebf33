//! Who of those that are there gets the calls.

use crate::support::{Backend, LIMIT, Mode, World, call, calls, instance, until_calls_go_to};
use registry_core::Registry;
use registry_tonic::{ChannelOptions, Ejection};
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, metadata::MetadataMap};

fn fleet(count: usize) -> Vec<Backend> {
    (0..count).map(|_| Backend::start()).collect()
}

#[tokio::test]
async fn a_slow_instance_gets_few_calls_and_is_not_forgotten_when_the_view_changes() {
    let backends = fleet(3);
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].set(Mode::Take(Duration::from_millis(100)));
    let learnt = async {
        let before = backends[0].calls();
        while backends[0].calls() == before {
            call(&client).await.unwrap();
        }
    };
    timeout(LIMIT, learnt).await.unwrap();

    let before = backends[0].calls();
    calls(&client, 300).await;
    assert!(backends[0].calls() - before <= 3, "{}", backends[0].calls() - before);

    // The view is another now: weight and metadata of all have changed.
    for (id, backend) in backends.iter().enumerate() {
        let changed = instance(id, backend).with_weight(50).with_metadata([("version", "2")]);
        world.put(changed.unwrap()).await;
    }
    let before = backends[0].calls();
    calls(&client, 300).await;
    assert!(backends[0].calls() - before <= 3, "{}", backends[0].calls() - before);
    assert!(backends.iter().all(|backend| backend.connections() == 1));
}

#[tokio::test]
async fn an_instance_that_fails_is_ejected_and_tried_again() {
    let backends = fleet(3);
    let world = World::new();
    world.put_all(&backends).await;
    let base = Duration::from_millis(300);
    let ejection = Ejection { base, ..Ejection::default() };
    let options = ChannelOptions { ejection: Some(ejection), ..ChannelOptions::default() };
    let client = world.client(options);
    until_calls_go_to(&client, &backends, |_| true).await;

    backends[0].set(Mode::Fail(Code::Internal));
    let mut failed = 0;
    let ejected = async {
        let mut since = 0;
        while since < 300 {
            since += 1;
            if call(&client).await.is_err() {
                failed += 1;
                since = 0;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, ejected).await.unwrap();
    assert!((1..=8).contains(&failed), "{failed}");

    backends[0].set(Mode::Serve);
    let before = backends[0].calls();
    let back = async {
        while backends[0].calls() < before + 5 {
            call(&client).await.unwrap();
        }
    };
    timeout(LIMIT, back).await.expect("it is found again");
}

#[tokio::test]
async fn half_of_the_instances_stay_however_many_fail() {
    let backends = fleet(4);
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    for backend in &backends {
        backend.set(Mode::Fail(Code::Unavailable));
    }
    for _ in 0..200 {
        assert_eq!(call(&client).await.unwrap_err().message(), "as told");
    }
    let before: Vec<u32> = backends.iter().map(Backend::calls).collect();
    for _ in 0..100 {
        call(&client).await.unwrap_err();
    }
    let called = backends.iter().zip(before).filter(|(backend, was)| backend.calls() > *was);
    assert!(called.count() >= 2);
}

#[tokio::test]
async fn what_a_call_asked_for_wrongly_is_not_held_against_the_instance() {
    let backends = fleet(2);
    let world = World::new();
    world.put_all(&backends).await;
    // Once ejected, it would get no call for the rest of the test.
    let base = Duration::from_secs(60);
    let ejection = Some(Ejection { base, max: base, ..Ejection::default() });
    let client = world.client(ChannelOptions { ejection, ..ChannelOptions::default() });
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].set(Mode::Fail(Code::InvalidArgument));
    let before = backends[0].calls();
    let called = async {
        while backends[0].calls() < before + 20 {
            let _ = call(&client).await;
        }
    };
    timeout(LIMIT, called).await.expect("it goes on being called");
}

#[tokio::test]
async fn our_zone_is_preferred_while_half_of_it_is_connected() {
    let mut backends = fleet(4);
    let world = World::new();
    for (id, backend) in backends.iter().enumerate() {
        let zone = if id < 2 { "near" } else { "far" };
        world.put(instance(id, backend).with_metadata([("zone", zone)]).unwrap()).await;
    }
    let options = ChannelOptions { zone: Some("near".into()), ..ChannelOptions::default() };
    let client = world.client(options);
    for backend in &backends {
        backend.connected(1).await;
    }
    until_calls_go_to(&client, &backends, |n| n < 2).await;
    backends[0].kill();
    until_calls_go_to(&client, &backends, |n| n == 1).await;
    backends[1].kill();
    until_calls_go_to(&client, &backends, |n| n >= 2).await;
}

#[tokio::test]
async fn a_client_with_a_subset_connects_to_no_more() {
    let backends = fleet(8);
    let world = World::new();
    world.put_all(&backends).await;
    let subset = NonZeroUsize::new(3);
    let options = ChannelOptions { subset, client: Some("me".into()), ..ChannelOptions::default() };
    let client = world.client(options.clone());
    calls(&client, 200).await;
    let chosen: Vec<u32> = backends.iter().map(Backend::connections).collect();
    assert_eq!(chosen.iter().sum::<u32>(), 3, "{chosen:?}");

    // Another handle of that name chooses the same.
    let again = world.client(options);
    calls(&again, 200).await;
    let twice: Vec<u32> = backends.iter().map(Backend::connections).collect();
    assert_eq!(twice, chosen.iter().map(|count| count * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn several_instances_of_one_address_are_one_endpoint() {
    let backends = fleet(2);
    let world = World::new();
    world.put(instance(0, &backends[0])).await;
    let double = world.put(instance(1, &backends[0])).await;
    world.put(instance(2, &backends[1])).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    world.registry.deregister(&double).await.unwrap();
    calls(&client, 50).await;
    until_calls_go_to(&client, &backends, |_| true).await;
    assert_eq!((backends[0].connections(), backends[1].connections()), (1, 1));
}

#[tokio::test]
async fn metadata_of_the_options_is_sent_unless_the_call_says_otherwise() {
    let backends = fleet(1);
    let world = World::new();
    world.put_all(&backends).await;
    let mut metadata = MetadataMap::new();
    metadata.insert("app", "shop".parse().unwrap());
    metadata.insert("token", "s3cret".parse().unwrap());
    let options = ChannelOptions { metadata, ..ChannelOptions::default() };
    assert!(!format!("{options:?}").contains("s3cret"));
    let mut client = world.client(options);
    let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
    request.metadata_mut().insert("app", "other".parse().unwrap());
    timeout(LIMIT, client.check(request)).await.unwrap().unwrap();
    let heard = backends[0].heard();
    assert_eq!(heard.get("app").unwrap(), "other");
    assert_eq!(heard.get("token").unwrap(), "s3cret");
}
