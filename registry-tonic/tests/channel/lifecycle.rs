//! Tests of instances that register, withdraw, drain, are killed, or cannot be reached.

use crate::support::{
    Backend, DEADLINE, Fixture, Mode, call, calls, instance, service, until_calls_go_to,
    unused_address,
};
use futures_util::future::join_all;
use registry_core::{CallOptions, Instance, InstanceStatus, Registry};
use registry_engine::{Discovery, DiscoveryOptions};
use registry_mem::{Fault, FaultyRegistry};
use registry_testkit::lag::{timeout, tolerating};
use registry_tonic::{Channel, ChannelOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::Instant;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn calls_go_to_all_instances() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
}

#[tokio::test]
async fn fixed_addresses_are_called_without_a_registry() {
    let backends = [Backend::start(), Backend::start()];
    let addresses = backends.iter().map(|backend| backend.address.to_string().parse().unwrap());
    let channel = Channel::fixed(addresses, ChannelOptions::default());
    until_calls_go_to(&HealthClient::new(channel), &backends, |_| true).await;
}

#[tokio::test]
async fn connection_follows_registration_and_draining_even_without_calls() {
    let (one, two) = (Backend::start(), Backend::start());
    let fixture = Fixture::new();
    let _client = fixture.client(ChannelOptions::default());
    fixture.put(instance(1, &one)).await;
    one.until_connected(1).await;
    fixture.put(instance(2, &two)).await;
    two.until_connected(1).await;
    fixture.put(instance(1, &one).with_status(InstanceStatus::Draining)).await;
    one.until_disconnected().await;
    assert_eq!((one.calls(), two.calls()), (0, 0));
}

#[tokio::test]
async fn draining_instance_gets_no_new_calls_and_finishes_calls_in_flight() {
    let backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put(instance(0, &backends[0])).await;
    let client = fixture.client(ChannelOptions::default());
    let opened = async { client.clone().watch(HealthCheckRequest::default()).await };
    let mut stream = timeout(DEADLINE, opened).await.unwrap().unwrap().into_inner();
    assert_eq!(timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap().status, 1);

    fixture.put(instance(1, &backends[1])).await;
    fixture.put(instance(0, &backends[0]).with_status(InstanceStatus::Draining)).await;
    until_calls_go_to(&client, &backends, |n| n == 1).await;
    let before = backends[0].calls();
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before);

    backends[0].release();
    assert_eq!(timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap().status, 2);
    assert!(timeout(DEADLINE, stream.message()).await.unwrap().unwrap().is_none());
    drop(stream);
    backends[0].until_disconnected().await;
}

/// Regression: retained instances got as many calls as others, although the store had deleted them and they might be
/// dead.
#[tokio::test]
async fn retained_instances_are_called_only_if_fewer_than_half_are_listed() {
    let backends = [(); 4].map(|()| Backend::start());
    let fixture = Fixture::new();
    let mut leases = Vec::new();
    for (id, backend) in backends.iter().enumerate() {
        leases.push(fixture.put(instance(id, backend)).await);
    }
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    // Half of the leases are revoked without a withdrawal: the view retains the instances for 30 s.
    for lease in &leases[..2] {
        fixture.registry.revoke(lease.id());
    }
    until_calls_go_to(&client, &backends, |n| n >= 2).await;
    fixture.registry.revoke(leases[2].id());
    until_calls_go_to(&client, &backends, |_| true).await;
}

/// A refused connection proves that nothing listens at the address, so the instance is removed before its retention
/// ends.
#[tokio::test]
async fn retained_instance_that_refuses_connections_is_removed_at_once() {
    let mut backends = [(); 4].map(|()| Backend::start());
    let fixture = Fixture::new();
    let mut leases = Vec::new();
    for (id, backend) in backends.iter().enumerate() {
        leases.push(fixture.put(instance(id, backend)).await);
    }
    let discovery = Discovery::new(Arc::new(fixture.registry.clone()), DiscoveryOptions::default());
    let mut view = discovery.view(&service());
    let channel = Channel::new(view.clone(), ChannelOptions::default());
    until_calls_go_to(&HealthClient::new(channel.clone()), &backends, |_| true).await;
    // Half of the leases are revoked without a withdrawal: the view retains the instances for 30 s. One of them is
    // dead.
    backends[0].kill();
    for lease in &leases[..2] {
        fixture.registry.revoke(lease.id());
    }
    let one_is_left = async {
        while view.state().retained().len() != 1 {
            view.changed().await.unwrap();
        }
    };
    timeout(DEADLINE, one_is_left).await.unwrap();
    assert_eq!(view.state().retained()[0].record.id(), leases[1].instance().id());
    drop(channel); // until here, since the channel is what reports the refused connection to the view
}

#[tokio::test]
async fn unreachable_instance_fails_no_calls() {
    let backend = Backend::start();
    let fixture = Fixture::new();
    let (_reserved_port, address) = unused_address();
    fixture.put(Instance::from_parts(service(), "gone".parse().unwrap(), address)).await;
    fixture.put(instance(1, &backend)).await;
    let client = fixture.client(ChannelOptions::default());
    calls(&client, 200).await;
    assert_eq!(backend.calls(), 200);
}

#[tokio::test]
async fn killed_instance_fails_only_the_calls_in_flight() {
    let mut backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let channel = fixture.channel(ChannelOptions::default());
    let client = HealthClient::new(channel.clone());
    until_calls_go_to(&client, &backends, |_| true).await;

    // All calls to the first backend hang until it is killed.
    backends[0].set(Mode::Hang);
    let (before, answered) = (backends[0].calls(), Arc::new(AtomicU32::new(0)));
    let in_flight = || backends[0].calls() - before;
    let mut callers = Vec::new();
    let some_hang = async {
        // One hanging call is enough; while it is in flight, most calls go to the second backend.
        while in_flight() == 0 {
            let (client, done) = (client.clone(), answered.clone());
            callers.push(tokio::spawn(async move {
                let outcome = call(&client).await;
                done.fetch_add(u32::from(outcome.is_ok()), Ordering::SeqCst);
                outcome
            }));
            while ((answered.load(Ordering::SeqCst) + in_flight()) as usize) < callers.len() {
                yield_now().await;
            }
        }
    };
    timeout(DEADLINE, some_hang).await.expect("no call is in flight at the first backend");
    let in_flight = in_flight();
    backends[0].kill();
    // Calls that are sent before the client notices the kill would fail, too.
    let dead = backends[0].address.to_string();
    let is_noticed = async {
        while format!("{channel:?}").contains(&dead) {
            yield_now().await;
        }
    };
    timeout(DEADLINE, is_noticed).await.unwrap();
    calls(&client, 500).await;

    let ended = join_all(callers).await.into_iter().map(Result::unwrap);
    let failed: Vec<_> = ended.filter_map(Result::err).collect();
    assert_eq!(failed.len(), in_flight as usize, "{failed:?}");
    assert!(failed.iter().all(|status| status.code() == Code::Unavailable), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_kill_and_a_goaway_under_load_fail_at_most_one_call_per_caller() {
    let mut backends = [Backend::start(), Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
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
    assert!(failed <= 16, "more calls failed than were in flight: {failed} of at most 16");
    until_calls_go_to(&client, &backends, |n| n == 2).await;
}

#[tokio::test]
async fn silent_listener_does_not_count_as_connected() {
    let backend = Backend::start();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string().parse().unwrap();
    let fixture = Fixture::new();
    fixture.put(Instance::from_parts(service(), "silent".parse().unwrap(), address)).await;
    fixture.put(instance(1, &backend)).await;
    let client = fixture.client(ChannelOptions::default());
    calls(&client, 200).await;
    assert_eq!(backend.calls(), 200);
    timeout(DEADLINE, silent.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_without_draining_fails_no_call() {
    let mut backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
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
        timeout(DEADLINE, caller).await.unwrap().unwrap();
    }
    until_calls_go_to(&client, &backends, |n| n == 1).await;
}

#[tokio::test]
async fn goaway_on_a_connection_that_stays_open_fails_no_call() {
    let mut backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    let client = fixture.client(ChannelOptions::default());
    fixture.put_all(&backends).await;
    // One stream on each backend keeps both connections open, and balances the calls in flight.
    let mut streams = [None, None];
    let opened = async {
        while streams.iter().any(Option::is_none) {
            let before = backends[0].calls();
            let stream = client.clone().watch(HealthCheckRequest::default()).await.unwrap();
            let backend = usize::from(backends[0].calls() == before);
            streams[backend].get_or_insert(stream);
        }
    };
    timeout(DEADLINE, opened).await.expect("a backend got no stream");
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].send_goaway();
    calls(&client, 300).await;
    let before = backends[0].calls();
    calls(&client, 100).await;
    assert_eq!(backends[0].calls(), before, "the backend was called after GOAWAY");
    drop(streams);
    backends[0].until_ended().await;
}

#[tokio::test]
async fn restarted_instance_at_the_same_address_is_called_again() {
    let mut backends = vec![Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let address = backends[0].address;
    backends[0].kill();
    until_calls_go_to(&client, &backends, |n| n == 1).await;
    backends[0] = Backend::start_at(address);
    backends[0].until_connected(1).await;
    until_calls_go_to(&client, &backends, |_| true).await;
}

#[tokio::test]
async fn call_waits_for_the_first_load_and_the_first_connection() {
    let backend = Backend::start();
    let fixture = Fixture::new();
    fixture.put(instance(1, &backend)).await;
    let client = fixture.client(ChannelOptions::default());
    calls(&client, 1).await; // at once: the service is not loaded yet, and no connection is open
}

#[test]
fn call_to_a_service_without_endpoints_fails_at_once_with_the_reason() {
    tolerating(Duration::from_secs(5), async |lag| {
        let backend = Backend::start();
        let fixture = Fixture::new();
        let client = fixture.client(ChannelOptions::default());
        let fails = async |why: &str| {
            let fails_with_reason = async {
                loop {
                    // A call that waits for an endpoint would take five seconds.
                    let deadline = lag.deadline(Duration::from_secs(4));
                    let status = call(&client).await.unwrap_err();
                    assert_eq!(status.code(), Code::Unavailable);
                    deadline.assert_met();
                    if status.message().contains(why) {
                        return;
                    }
                }
            };
            timeout(DEADLINE, fails_with_reason).await.expect(why);
        };
        fails("no instance of `user.rpc` is registered").await;
        fixture.put(instance(1, &backend).with_status(InstanceStatus::Draining)).await;
        fails("all instances of `user.rpc` are draining or have weight 0, instances=`1`").await;
        fixture.put(instance(1, &backend).with_weight(0)).await;
        fails("are draining or have weight 0").await;
        let (_reserved_port, address) = unused_address();
        fixture.put(instance(1, &backend).with_address(address)).await;
        fails("no endpoint of `user.rpc` can be reached (1 tried): Connection refused").await;
        assert_eq!(backend.calls(), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn call_waits_no_longer_than_its_deadline() {
    let fixture = Fixture::new();
    // A store that never answers: the service is never loaded.
    let silent = FaultyRegistry::new((*fixture.registry).clone());
    silent.inject(Fault::Silence);
    let discovery = Discovery::new(Arc::new(silent), DiscoveryOptions::default());
    let channel = Channel::new(discovery.view(&service()), ChannelOptions::default());
    let mut client = HealthClient::new(channel);

    let begun = Instant::now();
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let status = client.check(request).await.unwrap_err();
    assert_eq!((status.code(), begun.elapsed().as_secs()), (Code::DeadlineExceeded, 1));

    // Without a deadline, a call waits 5 s for an endpoint.
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), begun.elapsed().as_secs()), (Code::Unavailable, 1 + 5));
    assert_eq!(status.message(), "`user.rpc` has not been loaded from the registry yet");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_idle_connections_at_once_and_busy_ones_after_their_call() {
    let backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let client = fixture.client(ChannelOptions::default());
    until_calls_go_to(&client, &backends, |_| true).await;
    let before = backends[0].calls();
    let opened = async { client.clone().watch(HealthCheckRequest::default()).await };
    let mut stream = timeout(DEADLINE, opened).await.unwrap().unwrap().into_inner();
    timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap();
    let (busy, idle) = if backends[0].calls() > before { (0, 1) } else { (1, 0) };
    drop(client);
    backends[idle].until_disconnected().await;
    backends[busy].release();
    timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap();
    drop(stream);
    backends[busy].until_disconnected().await;
}

#[tokio::test]
async fn ready_without_an_instance_fails_with_the_store_and_the_scope() {
    let fixture = Fixture::new();
    let channel = fixture.channel(ChannelOptions::default());
    let status = channel.ready(Duration::from_millis(500)).await.unwrap_err();
    let snapshot = fixture.registry.load(&service(), &CallOptions::DEFAULT).await.unwrap();
    let cursor = snapshot.cursor().to_string();
    let scope = cursor.split(':').nth(2).unwrap();
    let expected = format!(
        "no instance of `user.rpc` is registered: check that its servers use the store, layout and \
         prefix of this caller, store=`mem`, scope=`{scope}`"
    );
    assert_eq!(status.message(), expected);
}

#[tokio::test]
async fn ready_waits_for_the_first_endpoint() {
    let backend = Backend::start();
    let fixture = Fixture::new();
    let channel = fixture.channel(ChannelOptions::default());
    let (ready, _) = tokio::join!(
        timeout(DEADLINE, channel.ready(DEADLINE)),
        fixture.put(instance(1, &backend))
    );
    ready.unwrap().unwrap();
    let endpoints = format!("{channel:?}");
    assert!(endpoints.contains(&backend.address.to_string()), "{endpoints}");
}
