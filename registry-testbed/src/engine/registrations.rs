//! Tests of registrations: starts, restarts, competition for an id, and crashes.

use super::fixture::Fixture;
use super::observer::{AllowedLoss, with_data};
use super::{Fault, Side};
use futures_util::StreamExt;
use futures_util::stream::select;
use registry_core::{CallOptions, ErrorKind, Record, Registry};
use registry_engine::{Registration, RegistrationStatus, Start};
use registry_testkit::case::{instance, pass, retry, timed, within};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn a_restarted_publisher_takes_over_its_id(mut fixture: Fixture) {
    fixture.register_and_crash("node-1").await;
    fixture.observe(AllowedLoss::None);
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    let takeover = fixture.lag.deadline(fixture.options.propagation());
    fixture.register("node-1").await;
    takeover.assert_met(); // before the ttl of the old lease
    fixture.start_checks().await;
    fixture.forget_direct_leases();
    pass(fixture.options.expiry()).await; // the old lease expires without an effect
    fixture.finish().await;
}

pub(super) async fn a_superseded_claim_that_retries_does_not_displace_the_holder(
    mut fixture: Fixture,
) {
    fixture.register("node-1").await;
    fixture.observe(AllowedLoss::None);
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    let id = fixture.owners[0].instance().id().clone();

    let node = with_data(instance(&fixture.service, "node-1"), "second");
    let options = fixture.options.registration();
    let second = Registration::start(fixture.registry(Side::Publisher), node, options);
    let second = within(second).await.unwrap();
    let detection = fixture.options.conflict_detection();
    let mut states = fixture.owners[0].statuses();
    let superseded =
        async { while !matches!(states.next().await, Some(RegistrationStatus::Superseded)) {} };
    fixture.lag.timeout(detection, superseded).await.expect("the first does not notice");

    let changes = fixture.oracle.changes();
    assert!(changes <= 2, "{changes} changes, expected one put each");
    pass(3 * fixture.options.ttl()).await;
    assert_eq!(fixture.oracle.changes(), changes, "the id changed hands again");
    assert!(second.status().is_active(), "{second:?}");
    let first = fixture.owners[0].status();
    assert!(matches!(first, RegistrationStatus::Superseded), "{first:?}");
    let listed = fixture.listed().await;
    assert!(listed.instances().eq([&second.instance()]), "{listed:?}");

    fixture.stop_expecting(&id);
    within(second.stop()).await.unwrap();
    let reactivated = async { while !states.next().await.unwrap().is_active() {} };
    fixture.lag.timeout(detection, reactivated).await.expect("the first does not register again");
    fixture.start_checks().await;
    assert!(fixture.oracle.changes() <= 4, "more than a delete and a put after the stop");
    fixture.finish().await;
}

/// Regression: the claim of the older incarnation was applied, but its reply was delayed, and the newer incarnation
/// took over. The older one repeated its claim, mistook the refusal for the first answer of its start, and took over
/// again.
pub(super) async fn an_older_incarnation_with_delayed_replies_does_not_displace_a_newer_one(
    mut fixture: Fixture,
) {
    fixture.observe(AllowedLoss::None);
    let ttl = fixture.options.ttl();
    // A delay must let the claim arrive, but its reply too late. On etcd the first one does, on Redis the second one.
    for (n, delay) in [ttl * 3 / 20, ttl * 2 / 5].into_iter().enumerate() {
        let id = format!("node-{n}");
        fixture.environment.delay_replies(Side::Publisher, delay).await;
        let older = start_as(&fixture, &id, Side::Publisher).await;
        pass(3 * delay).await;
        let newer = start_as(&fixture, &id, Side::Subscriber).await;
        pass(ttl).await;
        fixture.environment.heal().await;
        let both = [&older, &newer];
        let settled = settle(both);
        let detection = fixture.options.conflict_detection() + fixture.options.recovery();
        fixture
            .lag
            .timeout(detection, settled)
            .await
            .expect("not exactly one is active and one superseded");
        pass(2 * ttl).await;
        assert!(is_settled(both), "{older:?}, {newer:?}");

        let holders = fixture.oracle.holders(older.instance().id());
        let held: BTreeSet<_> = holders.iter().flatten().collect();
        assert_eq!(held.len() + 1, holders.len(), "an incarnation held the id twice: {holders:?}");
        let (holder, superseded) =
            if newer.status().is_active() { (newer, older) } else { (older, newer) };
        within(superseded.stop()).await.unwrap();
        let listed = fixture.listed().await;
        let listed = listed.find(&id).map(Record::instance);
        assert_eq!(
            listed,
            Some(&holder.instance()),
            "the stop of the superseded one changed the record"
        );
        within(holder.stop()).await.unwrap();
    }
    fixture.finish().await;
}

/// Starts an incarnation of an id in the background, over the connection of a side. Its data names the side.
async fn start_as(fixture: &Fixture, id: &str, side: Side) -> Registration {
    let node = with_data(instance(&fixture.service, id), &side.to_string());
    let options = fixture.options.registration().with_start(Start::InBackground);
    within(Registration::start(fixture.registry(side), node, options)).await.unwrap()
}

/// Returns whether one is active and the other superseded.
fn is_settled(both: [&Registration; 2]) -> bool {
    let statuses = both.map(Registration::status);
    let superseded = |status: &RegistrationStatus| matches!(status, RegistrationStatus::Superseded);
    statuses.iter().any(RegistrationStatus::is_active) && statuses.iter().any(superseded)
}

async fn settle(both: [&Registration; 2]) {
    let mut statuses = select(both[0].statuses(), both[1].statuses());
    while !is_settled(both) {
        statuses.next().await.expect("a registration ended");
    }
}

pub(super) async fn a_crashed_publisher_is_removed_at_its_ttl(mut fixture: Fixture) {
    fixture.register("node-1").await;
    let sent = Instant::now();
    fixture.register_and_crash("node-2").await;
    let expiry = fixture.lag.deadline(fixture.options.expiry());
    fixture.observe(AllowedLoss::None);
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    for observer in &fixture.observers {
        let mut view = observer.view.clone();
        let deleted = async {
            while view
                .store_snapshot()
                .is_some_and(|store| store.records().find("node-2").is_some())
            {
                view.changed().await.unwrap();
            }
        };
        expiry.timeout(deleted).await.expect("still listed after its ttl");
        let took = sent.elapsed();
        assert!(took >= fixture.options.ttl(), "deleted before its ttl, after {took:?}");
        // Without a withdrawal the view retains it for the hold time, in case its owner returns.
        let hold_time = fixture.options.hold_time();
        let released = async {
            while view.state().records().find("node-2").is_some() {
                view.changed().await.unwrap();
            }
        };
        let deadline = fixture.lag.deadline(hold_time + fixture.options.propagation());
        deadline.timeout(released).await.expect("retained beyond the hold time");
    }
    fixture.forget_direct_leases();
    fixture.finish().await;
}

/// Registrations that renewed only every two thirds of a ttl would pass all tests of single faults, since those begin
/// just after a renewal.
pub(super) async fn leases_survive_outages_that_leave_time_for_a_renewal(mut fixture: Fixture) {
    for n in 1..=12 {
        fixture.register(&format!("node-{n}")).await;
    }
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    let changes = fixture.oracle.changes();
    for _ in 0..3 {
        // Within this time, only leases that are renewed every third of a ttl have been renewed.
        pass(fixture.options.ttl() * 13 / 20).await;
        fixture.environment.inject(Fault::Outage, Side::Publisher, &fixture.service).await;
        pass(fixture.options.short_fault()).await;
        fixture.environment.heal().await;
    }
    fixture.converge(fixture.options.recovery()).await;
    assert_eq!(fixture.oracle.changes(), changes, "a lease expired");
    fixture.finish().await;
}

pub(super) async fn deleted_records_are_registered_again_before_the_next_renewal(fixture: Fixture) {
    assert_lost_records_return(fixture, Fault::Deletion).await;
}

pub(super) async fn records_of_revoked_leases_are_registered_again_before_the_next_renewal(
    fixture: Fixture,
) {
    assert_lost_records_return(fixture, Fault::Revocation).await;
}

/// Covers both kinds of watches: the first eight registrations of a service have a watch each, the others share one.
async fn assert_lost_records_return(mut fixture: Fixture, fault: Fault) {
    const OWNERS: usize = 20;
    let options = fixture.options.registration().with_ttl(Duration::from_secs(60));
    for n in 1..=OWNERS {
        let node = with_data(instance(&fixture.service, &format!("node-{n}")), "own");
        let start = fixture.registry(Side::Publisher);
        let owner = within(Registration::start(start, node, options.clone())).await.unwrap();
        fixture.owners.push(owner);
    }
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    // Lets the watches on the records open, since the test is about open watches.
    pass(fixture.options.propagation()).await;
    let changes = fixture.oracle.changes();
    assert_eq!(changes, OWNERS, "a record was put more than once without a fault");
    for _ in 0..2 {
        let before = fixture.listed().await.iter().filter_map(Record::revision).max();
        fixture.environment.inject(fault, Side::Both, &fixture.service).await;
        let deadline = fixture.lag.deadline(Duration::from_secs(5));
        let all_back = async {
            loop {
                let listed = fixture.listed().await;
                let is_new = listed.iter().all(|record| record.revision() > before);
                if is_new && listed.len() == OWNERS {
                    break;
                }
                pass(Duration::from_millis(5)).await;
            }
        };
        deadline
            .timeout(all_back)
            .await
            .expect("the records are not back before a renewal, which is due after 20 s");
        fixture.environment.heal().await;
    }
    fixture.converge(fixture.options.recovery()).await;
    let changes = fixture.oracle.changes() - changes;
    assert!(
        changes <= 4 * OWNERS,
        "{changes} changes, expected one delete and one put of each record in each round"
    );
    fixture.finish().await;
}

pub(super) async fn a_start_fails_in_time_if_the_store_is_unreachable(mut fixture: Fixture) {
    fixture.observe(AllowedLoss::None);
    let limit = fixture.options.short_fault();
    for fault in [Fault::Outage, Fault::Silence, Fault::LostReplies] {
        // Opens the connection, so that the fault affects an open one.
        let publisher = fixture.registry(Side::Publisher);
        retry(|| publisher.load(&fixture.service, &CallOptions::DEFAULT)).await;
        fixture.environment.inject(fault, Side::Publisher, &fixture.service).await;
        // Without takeover, a start claims at once. With it, the start would only read, since no reply arrives.
        let options =
            fixture.options.registration().with_start(Start::Within(limit)).with_takeover(false);
        let node = instance(&fixture.service, "node-1");
        let start = Registration::start(fixture.registry(Side::Publisher), node, options);
        let deadline = fixture.lag.deadline(limit + fixture.options.propagation());
        let (took, started) = timed(start).await;
        let error = started.expect_err("started although the store is unreachable");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
        assert!(took >= limit, "{fault:?}: failed after {took:?}, before its limit");
        deadline.assert_met();
        fixture.environment.heal().await;
        // A claim that was applied is withdrawn, and none is made later.
        fixture.converge(fixture.options.recovery()).await;
        pass(fixture.options.ttl()).await;
        fixture.converge(fixture.options.propagation()).await;
    }
    fixture.finish().await;
}

pub(super) async fn a_registration_started_in_the_background_during_an_outage_is_active_after_it(
    mut fixture: Fixture,
) {
    fixture.observe(AllowedLoss::None);
    fixture.environment.inject(Fault::Outage, Side::Publisher, &fixture.service).await;
    let options = fixture.options.registration().with_start(Start::InBackground);
    let node = instance(&fixture.service, "node-1");
    let start = Registration::start(fixture.registry(Side::Publisher), node, options);
    let owner = within(start).await.unwrap();
    pass(fixture.options.short_fault()).await;
    let state = owner.status();
    assert!(matches!(state, RegistrationStatus::Retrying { .. }), "{state:?}");
    assert!(fixture.listed().await.is_empty());
    fixture.environment.heal().await;
    fixture.owners.push(owner);
    fixture.start_checks().await;
    fixture.finish().await;
}
