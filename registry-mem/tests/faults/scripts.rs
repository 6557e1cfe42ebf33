//! Scripts, and a complete client under random ones.

use super::{claim, connect, instance, load, ms, service, within};
use futures_util::StreamExt;
use registry_core::{CallOptions, ErrorKind, Registry, Snapshot};
use registry_mem::{Fault, FaultyRegistry, MemRegistry, Script};
use registry_testkit::case::take_over;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn script_plays_on_time() {
    let (_, flaky) = connect();
    let script = Script::new()
        .at(ms(100), Fault::Outage)
        .heal_at(ms(200))
        .at(ms(300), Fault::LostReplies)
        .heal_at(ms(400));
    let start = Instant::now();
    let calls = async {
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            sleep(ms(50)).await;
            outcomes.push(flaky.services(&CallOptions::DEFAULT).await.is_ok());
            sleep(ms(50)).await;
        }
        outcomes
    };
    let played = async {
        flaky.play(&script).await;
        start.elapsed()
    };
    let (outcomes, played) = tokio::join!(calls, played);
    assert_eq!(outcomes, [true, false, true, false, true]);
    assert_eq!(played, script.length());
    assert_eq!((flaky.hits().calls_refused, flaky.hits().replies_lost), (1, 1));
}

/// Runs a minimal client under random scripts.
#[tokio::test(start_paused = true)]
async fn client_misses_nothing_under_random_scripts() {
    let mut total = [0; 8];
    for seed in 0..200 {
        let store = MemRegistry::new();
        let flaky = FaultyRegistry::with_seed(store.clone(), seed);
        let script = Script::random(seed, Duration::from_secs(10));
        println!("seed {seed}: {script}"); // shown only if the test fails
        let writer = tokio::spawn(write_to(store.clone()));
        let own_writer = tokio::spawn(write_to(flaky.clone()));
        let follower = tokio::spawn(follow_until_last(flaky.clone()));
        flaky.play(&script).await;
        own_writer.abort();
        writer.abort();
        assert!(within(own_writer).await.is_err_and(|error| error.is_cancelled()));
        assert!(within(writer).await.is_err_and(|error| error.is_cancelled()));

        within(flaky.register(&instance("last"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
        let view = within(follower).await.unwrap();
        assert_eq!(view.records(), load(&store).await.records());
        let hits = flaky.hits();
        let seen = [
            hits.calls_delayed + hits.items_delayed,
            hits.calls_refused,
            hits.calls_silenced,
            hits.replies_lost,
            hits.watches_ended,
            hits.leases_ended,
            hits.compactions,
            hits.rollbacks,
        ];
        seen.iter().zip(&mut total).for_each(|(seen, total)| *total += seen);
    }
    assert!(total.iter().all(|hits| *hits > 20), "{total:?}");
}

async fn write_to(registry: impl Registry) {
    for n in 0_usize.. {
        let one = instance(&(n % 7).to_string()).with_metadata([("n", n.to_string())]);
        let _ = timeout(ms(500), take_over(&registry, &one, &claim())).await;
        sleep(ms(100)).await;
    }
}

async fn follow_until_last(registry: FaultyRegistry) -> Snapshot {
    let fresh = async || loop {
        match timeout(ms(500), registry.load(&service(), &CallOptions::DEFAULT)).await {
            Ok(Ok(view)) => return view,
            _ => sleep(ms(50)).await,
        }
    };
    let mut view = fresh().await;
    loop {
        let opened =
            timeout(ms(500), registry.watch(&service(), view.cursor(), &CallOptions::DEFAULT))
                .await;
        let kind = match opened {
            Ok(Ok(mut watch)) => loop {
                match watch.next().await.unwrap() {
                    Ok(batch) => view.apply(&batch).unwrap(),
                    Err(error) => break error.kind(),
                }
                if view.instances().any(|one| one.id().as_str() == "last") {
                    return view;
                }
            },
            Ok(Err(error)) => error.kind(),
            Err(_) => ErrorKind::Unavailable,
        };
        match kind {
            ErrorKind::Unavailable => sleep(ms(50)).await,
            ErrorKind::Compacted | ErrorKind::Diverged => view = fresh().await,
            kind => panic!("{kind:?}"),
        }
    }
}
