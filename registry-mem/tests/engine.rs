//! The engine's tests over the memory store with faults, on a paused clock.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use registry_core::{CallOptions, Registry, ServiceName};
use registry_mem::{FaultyRegistry, Hits, MemRegistry, Script, faults};
use registry_testbed::engine::{Environment, Fault, Side, SuiteOptions, suite};
use registry_testkit::Traits;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ALL: &[Side] = &[Side::Publisher, Side::Subscriber, Side::Both];

const FAULTS: &[(Fault, &[Side])] = &[
    // A publisher has no call in flight, since calls take no time.
    (Fault::Cut, &[Side::Subscriber]),
    (Fault::Silence, ALL),
    (Fault::LostReplies, ALL),
    (Fault::Outage, ALL),
    (Fault::Delay, ALL),
    (Fault::Compaction, &[Side::Both]),
    (Fault::Rollback, &[Side::Both]),
    (Fault::Revocation, &[Side::Both]),
    (Fault::Deletion, &[Side::Both]),
];

fn main() -> ExitCode {
    let options =
        SuiteOptions::new(Traits::memory(), Duration::from_secs(5), Duration::ZERO, FAULTS);
    suite(&options.with_random_runs(0..64, Duration::from_secs(60)), || async {
        Ok(Arc::new(Memory::new()) as Arc<dyn Environment>)
    })
}

/// One store, and a connection for each side.
struct Memory {
    store: MemRegistry,
    publisher: FaultyRegistry,
    subscriber: FaultyRegistry,
    active: Mutex<Option<ActiveFault>>,
}

struct ActiveFault {
    fault: Fault,
    side: Side,
    before: [Hits; 2],
}

impl Memory {
    fn new() -> Self {
        let store = MemRegistry::new();
        let publisher = FaultyRegistry::with_seed(store.clone(), 1);
        let subscriber = FaultyRegistry::with_seed(store.clone(), 2);
        Self { store, publisher, subscriber, active: Mutex::new(None) }
    }

    fn hits(&self) -> [Hits; 2] {
        [self.publisher.hits(), self.subscriber.hits()]
    }
}

#[async_trait]
impl Environment for Memory {
    fn registry(&self, side: Side) -> Arc<dyn Registry> {
        Arc::new(if side.has_publisher() { &self.publisher } else { &self.subscriber }.clone())
    }

    fn direct(&self) -> Arc<dyn Registry> {
        Arc::new(self.store.clone())
    }

    async fn inject(&self, fault: Fault, side: Side, service: &ServiceName) {
        let before = self.hits();
        let publisher = side.has_publisher().then_some(&self.publisher);
        let subscriber = side.has_subscriber().then_some(&self.subscriber);
        let injected: &[faults::Fault] = match fault {
            Fault::Cut => &[faults::Fault::Cut],
            Fault::Silence => &[faults::Fault::Silence],
            // An open watch makes no calls, so it must be opened again.
            Fault::LostReplies => &[faults::Fault::LostReplies, faults::Fault::Cut],
            Fault::Outage => &[faults::Fault::Outage],
            Fault::Delay => {
                let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
                &[faults::Fault::Latency { min, max }]
            }
            _ => &[],
        };
        for connection in publisher.into_iter().chain(subscriber) {
            for fault in injected {
                connection.inject(*fault);
            }
        }
        match fault {
            Fault::Compaction => self.subscriber.inject(faults::Fault::Outage),
            Fault::Rollback => self.publisher.inject(faults::Fault::Rollback),
            Fault::Revocation => {
                for _ in self.store.load(service, &CallOptions::DEFAULT).await.unwrap().instances()
                {
                    self.publisher.inject(faults::Fault::LeaseLost);
                }
                assert!(
                    self.store
                        .load(service, &CallOptions::DEFAULT)
                        .await
                        .unwrap()
                        .records()
                        .is_empty()
                );
            }
            Fault::Deletion => {
                assert!(
                    !self
                        .store
                        .load(service, &CallOptions::DEFAULT)
                        .await
                        .unwrap()
                        .records()
                        .is_empty()
                );
                self.store.evict(service);
                assert!(
                    self.store
                        .load(service, &CallOptions::DEFAULT)
                        .await
                        .unwrap()
                        .records()
                        .is_empty()
                );
            }
            _ => {}
        }
        *self.active.lock().unwrap() = Some(ActiveFault { fault, side, before });
    }

    async fn delay_replies(&self, side: Side, by: Duration) {
        let before = self.hits();
        let connection = if side.has_publisher() { &self.publisher } else { &self.subscriber };
        connection.inject(faults::Fault::Latency { min: by, max: by });
        *self.active.lock().unwrap() = Some(ActiveFault { fault: Fault::Delay, side, before });
    }

    async fn heal(&self) {
        let Some(ActiveFault { fault, side, before }) = self.active.lock().unwrap().take() else {
            return;
        };
        if fault == Fault::Compaction {
            self.subscriber.inject(faults::Fault::Compaction);
        }
        self.publisher.heal();
        self.subscriber.heal();
        let hit = |n: usize| count(fault, self.hits()[n]) > count(fault, before[n]);
        let publisher = side.has_publisher() && fault != Fault::Compaction;
        let subscriber = side.has_subscriber()
            && !matches!(fault, Fault::Rollback | Fault::Revocation | Fault::Deletion);
        assert!(
            !publisher || fault == Fault::Deletion || hit(0),
            "the fault did not affect the publishers"
        );
        assert!(!subscriber || hit(1), "the fault did not affect the subscribers");
    }

    async fn play(&self, seed: u64, length: Duration) {
        let scripts = [2 * seed, 2 * seed + 1].map(|seed| Script::random(seed, length));
        tokio::join!(self.publisher.play(&scripts[0]), self.subscriber.play(&scripts[1]));
        assert_ne!(self.hits(), [Hits::default(); 2], "no effect of {scripts:?}");
    }
}

/// Returns the counter of a fault's effects on one connection.
fn count(fault: Fault, hits: Hits) -> u64 {
    match fault {
        Fault::Cut => hits.watches_ended + hits.calls_cut,
        Fault::Silence => hits.calls_silenced + hits.watches_silenced,
        Fault::LostReplies => hits.replies_lost,
        Fault::Outage => hits.calls_refused,
        Fault::Delay => hits.calls_delayed + hits.items_delayed,
        Fault::Compaction => hits.compactions,
        Fault::Rollback => hits.rollbacks,
        Fault::Revocation => hits.leases_ended,
        _ => 0,
    }
}
