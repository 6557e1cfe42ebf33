//! Tests with a newer incarnation that starts while the link of an older one is slow or loses replies.

use crate::support::*;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use registry_core::{Change, Instance, Takeover};
use registry_engine::{Registration, RegistrationStatus, Update, View};
use registry_mem::Fault;
use std::time::Duration;

const OLDER: u32 = 1;
const NEWER: u32 = 2;

fn incarnation(weight: u32) -> Instance {
    node("a").with_weight(weight)
}

/// Two clients of one store, and the updates of the service.
struct Incarnations {
    older: World,
    newer: World,
    _view: View,
    updates: BoxStream<'static, Update>,
}

impl Incarnations {
    async fn new() -> Self {
        let older = World::new();
        let newer = World::over(older.store.clone());
        let view = World::over(older.store.clone()).view(no_retention()).await;
        let mut updates = changes(&view);
        within(updates.next()).await.unwrap(); // the initial state
        Self { older, newer, _view: view, updates }
    }

    /// Starts the older incarnation in the background, and the newer one after `later`.
    async fn start(&self, later: Duration) -> [Registration; 2] {
        let older = self.older.try_start(incarnation(OLDER), in_background()).await.unwrap();
        advance(later).await;
        let newer = self.newer.try_start(incarnation(NEWER), in_background()).await.unwrap();
        [older, newer]
    }

    /// Returns the weights of the instance in the order of its changes, without consecutive repetitions.
    fn holders(&mut self) -> Vec<u32> {
        let mut holders = Vec::new();
        while let Some(Some(update)) = self.updates.next().now_or_never() {
            let Update::Batch(batch) = update else { continue };
            for change in &batch.changes {
                let Change::Put(record) = change else { panic!("a deletion: {change:?}") };
                holders.push(record.instance().weight());
            }
        }
        holders.dedup();
        holders
    }
}

fn weight(registration: &Registration) -> u32 {
    registration.instance().weight()
}

/// Regression: the store applied the claim of the older incarnation, but the reply was late, and the newer one took
/// over. The older one repeated its claim, mistook the refusal for the first answer of its start, and took over from
/// the newer one.
#[tokio::test(start_paused = true)]
async fn a_start_with_a_late_reply_yields_to_a_newer_incarnation() {
    for late in [millis(2_600), secs(4), secs(60)] {
        let mut both = Incarnations::new().await;
        let is_register = |call: &Call| matches!(call, Call::Register(..));
        both.older
            .spy
            .intercept(move |call| is_register(call).then_some(Interception::DelayedReply(late)));
        let [older, newer] = both.start(secs(1)).await;
        advance(2 * TTL).await;
        both.older.spy.stop_intercepting();
        advance(3 * TTL).await;
        assert_eq!(both.holders(), [OLDER, NEWER], "late by {late:?}");
        assert!(matches!(older.status(), RegistrationStatus::Superseded), "late by {late:?}");
        assert!(newer.status().is_active(), "late by {late:?}");
        assert_eq!(both.newer.stored().await, [incarnation(NEWER)]);
        // The older incarnation registers again once the newer one is withdrawn.
        within(newer.stop()).await.unwrap();
        advance(2 * TTL).await;
        assert_eq!(both.newer.stored().await, [incarnation(OLDER)]);
    }
}

/// A start sends no claim before it has read the holder. Its claim after the read makes it the newest incarnation.
#[tokio::test(start_paused = true)]
async fn while_replies_are_late_the_holder_of_the_id_changes_at_most_once() {
    let delays = [100, 1_000, 2_000, 2_600, 4_000, 60_000].map(millis);
    for (delay, later) in
        delays.into_iter().flat_map(|delay| [0, 1, 3, 7].map(|n| (delay, secs(n))))
    {
        let mut both = Incarnations::new().await;
        both.older.spy.intercept(move |_| Some(Interception::DelayedReply(delay)));
        let registrations = both.start(later).await;
        advance(2 * TTL).await;
        both.older.spy.stop_intercepting();
        advance(3 * TTL).await;
        let (case, holders) = (format!("late by {delay:?}, {later:?} later"), both.holders());
        let allowed = [vec![OLDER], vec![NEWER], vec![OLDER, NEWER], vec![NEWER, OLDER]];
        assert!(allowed.contains(&holders), "{case}: {holders:?}");
        let holder = *holders.last().unwrap();
        assert_eq!(both.newer.stored().await, [incarnation(holder)], "{case}");
        for registration in &registrations {
            let status = registration.status();
            let is_right = match &status {
                RegistrationStatus::Active => weight(registration) == holder,
                RegistrationStatus::Superseded => weight(registration) != holder,
                _ => false,
            };
            assert!(is_right, "{case}: {registration:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_first_requests_are_lost_takes_over_from_a_crashed_process() {
    let world = World::new();
    world.put_as(&incarnation(OLDER)).await;
    world.link.inject(Fault::Outage);
    let registration = world.try_start(incarnation(NEWER), in_background()).await.unwrap();
    advance(secs(3)).await;
    assert!(world.spy.claims().is_empty(), "a claim before the holder was read");
    // The read is answered, but the claim does not reach the store.
    let is_register = |call: &Call| matches!(call, Call::Register(..));
    let refusal = Interception::Refuse(registry_core::ErrorKind::Unavailable);
    world.spy.intercept(move |call| is_register(call).then_some(refusal));
    world.link.heal();
    advance(secs(3)).await;
    assert!(world.spy.claims().len() > 1);
    world.spy.stop_intercepting();
    until_active(&registration).await;
    assert_eq!(world.stored().await, [incarnation(NEWER)]);
    let claims = world.spy.claims();
    assert!(claims.iter().all(|(_, claim)| claim.takeover() == claims[0].1.takeover()));
    assert!(matches!(claims[0].1.takeover(), Takeover::From(_)));
}

#[tokio::test(start_paused = true)]
async fn a_start_reads_the_holder_once_and_claims_once() {
    for is_held in [false, true] {
        let world = World::new();
        if is_held {
            world.put_as(&incarnation(OLDER)).await;
        }
        let _registration = world.start(incarnation(NEWER)).await;
        assert_eq!((world.spy.holder_reads(), world.spy.claims().len()), (1, 1));
        world.link.inject(Fault::LeaseLost);
        advance(TTL).await;
        assert_eq!((world.spy.holder_reads(), world.spy.claims().len()), (1, 2));
    }
}
