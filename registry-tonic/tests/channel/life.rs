//! Instances that come, go, drain, die and cannot be reached.

use crate::support::{
    Backend, LIMIT, Mode, World, call, calls, instance, nobody, service, until_calls_go_to,
};
use futures_util::future::join_all;
use registry_core::{Instance, Registry, Status};
use registry_engine::{Discovery, DiscoveryOptions};
use registry_mem::{Fault, FaultyRegistry};
use registry_tonic::{Channel, ChannelOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn calls_go_to_all_instances() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
}

#[tokio::test]
async fn addresses_without_a_registry_are_called_too() {
    let backends = [Backend::start(), Backend::start()];
    let addresses = backends.iter().map(|backend| backend.address.to_string().parse().unwrap());
    let channel = Channel::fixed(addresses, ChannelOptions::default());
    until_calls_go_to(&HealthClient::new(channel), &backends, |_| true).await;
}

#[tokio::test]
async fn a_new_instance_is_connected_to_and_a_gone_one_hung_up_on_without_a_call() {
    let (one, two) = (Backend::start(), Backend::start());
    let world = World::new();
    let _client = world.client(ChannelOptions::default());
    world.put(instance(1, &one)).await;
    one.connected(1).await;
    world.put(instance(2, &two)).await;
    two.connected(1).await;
    world.put(instance(1, &one).with_status(Status::Draining)).await;
    one.left_alone().await;
    assert_eq!((one.calls(), two.calls()), (0, 0));
}

#[tokio::test]
async fn a_draining_instance_gets_no_new_calls_and_finishes_those_under_way() {
    let backends = [Backend::start(), Backend::start()];
    let world = World::new();
    world.put(instance(0, &backends[0])).await;
    let client = world.client(ChannelOptions::default());
    let opened = async { client.clone().watch(HealthCheckRequest::default()).await };
    let mut stream = timeout(LIMIT, opened).await.unwrap().unwrap().into_inner();
    assert_eq!(timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap().status, 1);

    world.put(instance(1, &backends[1])).await;
    world.put(instance(0, &backends[0]).with_status(Status::Draining)).await;
    until_calls_go_to(&client, &backends, |n| n == 1).await;
    let before = backends[0].calls();
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before);

    backends[0].release();
    assert_eq!(timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap().status, 2);
    assert!(timeout(LIMIT, stream.message()).await.unwrap().unwrap().is_none());
    drop(stream);
    backends[0].left_alone().await;
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_fails_nobodys_calls() {
    let backend = Backend::start();
    let world = World::new();
    let (_held, address) = nobody();
    world.put(Instance::new(service(), "gone".parse().unwrap(), address)).await;
    world.put(instance(1, &backend)).await;
    let client = world.client(ChannelOptions::default());
    calls(&client, 200).await;
    assert_eq!(backend.calls(), 200);
}

#[tokio::test]
async fn a_killed_instance_costs_the_calls_that_were_under_way_and_no_other() {
    let mut backends = [Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let channel = world.channel(ChannelOptions::default());
    let client = HealthClient::new(channel.clone());
    until_calls_go_to(&client, &backends, |_| true).await;

    // All calls to the first hang, until it is killed under them.
    backends[0].set(Mode::Hang);
    let (before, answered) = (backends[0].calls(), Arc::new(AtomicU32::new(0)));
    let under_way = || backends[0].calls() - before;
    let mut callers = Vec::new();
    let some_hang = async {
        // One is enough: while it hangs there, others rather go to the second.
        while under_way() == 0 {
            let (client, done) = (client.clone(), answered.clone());
            callers.push(tokio::spawn(async move {
                let outcome = call(&client).await;
                done.fetch_add(u32::from(outcome.is_ok()), Ordering::SeqCst);
                outcome
            }));
            while ((answered.load(Ordering::SeqCst) + under_way()) as usize) < callers.len() {
                yield_now().await;
            }
        }
    };
    timeout(LIMIT, some_hang).await.expect("the fault has something to hit");
    let under_way = under_way();
    backends[0].kill();
    // What is sent before the client can know of it is under way there, too.
    let dead = backends[0].address.to_string();
    let is_noticed = async {
        while format!("{channel:?}").contains(&dead) {
            yield_now().await;
        }
    };
    timeout(LIMIT, is_noticed).await.unwrap();
    calls(&client, 500).await;

    let ended = join_all(callers).await.into_iter().map(Result::unwrap);
    let failed: Vec<_> = ended.filter_map(Result::err).collect();
    assert_eq!(failed.len(), under_way as usize, "{failed:?}");
    assert!(failed.iter().all(|status| status.code() == Code::Unavailable), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn under_many_threads_a_death_costs_no_more_than_was_under_way_and_a_goodbye_nothing() {
    let mut backends = [Backend::start(), Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let callers = (0..16).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut failed = 0;
            for _ in 0..300 {
                failed += u32::from(call(&client).await.is_err());
            }
            failed
        })
    });
    let callers: Vec<_> = callers.collect();
    backends[0].shut_down().await;
    backends[1].kill();
    let failed = join_all(callers).await.into_iter().map(Result::unwrap).sum::<u32>();
    assert!(failed <= 16, "each caller has one call under way: {failed}");
    until_calls_go_to(&client, &backends, |n| n == 2).await;
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_not_connected_to() {
    let backend = Backend::start();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string().parse().unwrap();
    let world = World::new();
    world.put(Instance::new(service(), "silent".parse().unwrap(), address)).await;
    world.put(instance(1, &backend)).await;
    let client = world.client(ChannelOptions::default());
    calls(&client, 200).await;
    assert_eq!(backend.calls(), 200);
    timeout(LIMIT, silent.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_instance_that_says_goodbye_unannounced_costs_no_call() {
    let mut backends = [Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let callers = (0..8).map(|_| {
        tokio::spawn({
            let client = client.clone();
            async move { calls(&client, 500).await }
        })
    });
    let callers: Vec<_> = callers.collect();
    backends[0].shut_down().await;
    for caller in callers {
        timeout(LIMIT, caller).await.unwrap().unwrap();
    }
    until_calls_go_to(&client, &backends, |n| n == 1).await;
}

#[tokio::test]
async fn a_goodbye_on_a_connection_that_stays_open_costs_no_call() {
    let mut backends = [Backend::start(), Backend::start()];
    let world = World::new();
    let client = world.client(ChannelOptions::default());
    world.put_all(&backends).await;
    // One stream on each, so that the connections stay, and neither is preferred.
    let mut streams = [None, None];
    let opened = async {
        while streams.iter().any(Option::is_none) {
            let before = backends[0].calls();
            let stream = client.clone().watch(HealthCheckRequest::default()).await.unwrap();
            let called = usize::from(backends[0].calls() == before);
            streams[called].get_or_insert(stream);
        }
    };
    timeout(LIMIT, opened).await.expect("each gets one");
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].say_goodbye();
    calls(&client, 300).await;
    let before = backends[0].calls();
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before, "it is known to be gone");
    drop(streams);
    backends[0].ended().await;
}

#[tokio::test]
async fn an_instance_that_comes_back_at_its_address_is_called_again() {
    let mut backends = vec![Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let address = backends[0].address;
    backends[0].kill();
    until_calls_go_to(&client, &backends, |n| n == 1).await;
    backends[0] = Backend::start_at(address);
    backends[0].connected(1).await;
    until_calls_go_to(&client, &backends, |_| true).await;
}

#[tokio::test]
async fn a_call_waits_for_the_first_answer_of_the_registry_and_the_first_connection() {
    let backend = Backend::start();
    let world = World::new();
    world.put(instance(1, &backend)).await;
    let client = world.client(ChannelOptions::default());
    calls(&client, 1).await; // nothing was awaited before it
}

#[tokio::test]
async fn a_call_to_a_service_that_nobody_serves_fails_at_once_and_says_why() {
    let backend = Backend::start();
    let world = World::new();
    let client = world.client(ChannelOptions::default());
    let fails = async |why: &str| {
        let until_it_says_so = async {
            loop {
                let begun = Instant::now();
                let status = call(&client).await.unwrap_err();
                assert_eq!(status.code(), Code::Unavailable);
                assert!(begun.elapsed() < Duration::from_secs(4), "it does not wait");
                if status.message().contains(why) {
                    return;
                }
            }
        };
        timeout(LIMIT, until_it_says_so).await.expect(why);
    };
    fails("no instance of `user.rpc` is registered").await;
    world.put(instance(1, &backend).with_status(Status::Draining)).await;
    fails("all instances of `user.rpc` are draining, or have weight 0, instances=`1`").await;
    world.put(instance(1, &backend).with_weight(0)).await;
    fails("or have weight 0").await;
    let (_held, address) = nobody();
    world.put(instance(1, &backend).with_address(address)).await;
    fails("none of the 1 endpoints of `user.rpc` can be reached: Connection refused").await;
    assert_eq!(backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_it_may() {
    let world = World::new();
    // A store that never answers: the service is never loaded.
    let silent = FaultyRegistry::new((*world.registry).clone());
    silent.inject(Fault::Silence);
    let discovery = Discovery::new(Arc::new(silent), DiscoveryOptions::default());
    let channel = Channel::new(discovery.view(&service()), ChannelOptions::default());
    let mut client = HealthClient::new(channel);

    let begun = Instant::now();
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let status = client.check(request).await.unwrap_err();
    assert_eq!((status.code(), begun.elapsed().as_secs()), (Code::DeadlineExceeded, 1));

    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), begun.elapsed().as_secs()), (Code::Unavailable, 6));
    assert_eq!(status.message(), "`user.rpc` was not loaded from the registry yet");
}

#[tokio::test]
async fn with_the_last_handle_the_connections_are_closed_but_for_calls_under_way() {
    let backends = [Backend::start(), Backend::start()];
    let world = World::new();
    world.put_all(&backends).await;
    let client = world.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let before = backends[0].calls();
    let opened = async { client.clone().watch(HealthCheckRequest::default()).await };
    let mut stream = timeout(LIMIT, opened).await.unwrap().unwrap().into_inner();
    timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap();
    let (busy, idle) = if backends[0].calls() > before { (0, 1) } else { (1, 0) };
    drop(client);
    backends[idle].left_alone().await;
    backends[busy].release();
    timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap();
    drop(stream);
    backends[busy].left_alone().await;
    assert_eq!(world.registry.services().await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_would_rather_not_start_alone_waits_for_an_endpoint() {
    let backend = Backend::start();
    let world = World::new();
    let channel = world.channel(ChannelOptions::default());
    let status = channel.ready(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(status.message(), "no instance of `user.rpc` is registered");
    let (ready, _) =
        tokio::join!(timeout(LIMIT, channel.ready(LIMIT)), world.put(instance(1, &backend)));
    ready.unwrap().unwrap();
    assert!(format!("{channel:?}").contains(&backend.address.to_string()), "{channel:?}");
}
