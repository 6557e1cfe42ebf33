//! Tests of the single rules of retention. Times are milliseconds since the start.

use super::*;
use registry_core::Instance;

/// The ttl. Its return bound is 3 s, so the regular hold time is 4 s; the full hold time is 30 s.
const TTL: Duration = Duration::from_secs(9);

struct Bench {
    retention: Retention,
    start: Instant,
    listed: usize,
}

impl Bench {
    /// Returns a bench for a service with this many listed instances.
    fn of(listed: usize) -> Self {
        Self { retention: Retention::new(Some(TTL)), start: Instant::now(), listed }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Deletes instances that were not withdrawn.
    fn delete(&mut self, ms: u64, ids: &[&str]) {
        let after = self.listed - ids.len();
        let deleted = ids.iter().map(|id| record(id)).collect();
        self.retention.deleted(self.at(ms), deleted, self.listed, after);
        self.listed = after;
    }

    fn put(&mut self, id: &str) {
        self.retention.listed(record(id).id());
        self.listed += 1;
    }

    /// Simulates trouble with the store that ends at `end`.
    fn trouble(&mut self, end: u64) {
        self.retention.broken();
        self.retention.recovered(self.at(end));
    }

    fn retained(&mut self, ms: u64) -> Vec<String> {
        self.retention.expire(self.at(ms));
        let ids = self.retention.retained().map(|retained| retained.record.id().to_string());
        ids.collect()
    }

    /// Asserts that the retained instances are released at `ms` and not before.
    fn ends_at(&mut self, ms: u64) {
        assert_eq!(self.retention.next_expiry(), Some(self.at(ms)));
        assert!(!self.retained(ms - 1).is_empty());
        assert!(self.retained(ms).is_empty());
        assert_eq!(self.retention.next_expiry(), None);
    }
}

fn record(id: &str) -> Record {
    let (service, id) = ("a".parse().unwrap(), id.parse().unwrap());
    Record::new(Instance::from_parts(service, id, "h:1".parse().unwrap()))
}

#[test]
fn an_instance_deleted_without_withdrawal_is_retained_for_the_return_bound_plus_one_second() {
    for (ttl, hold) in [(1, 2_000), (2, 2_000), (6, 3_000), (10, 4_333), (15, 6_000), (60, 6_000)] {
        let mut bench = Bench::of(9);
        let record = record("1").with_ttl(Duration::from_secs(ttl));
        bench.retention.deleted(bench.at(100), vec![record], 9, 8);
        let end = bench.retention.next_expiry().unwrap() - bench.at(100);
        assert_eq!(end.as_millis(), hold, "ttl {ttl} s");
    }
    let mut bench = Bench::of(9);
    bench.delete(100, &["1"]);
    bench.ends_at(4_100);
}

#[test]
fn a_refused_connection_after_the_deletion_ends_the_retention_of_that_incarnation() {
    let (lease, other) = (LeaseId::new(7).ok(), LeaseId::new(8).ok());
    let mut bench = Bench::of(9);
    let record = record("1").with_lease(lease.unwrap());
    let id = record.id().clone();
    bench.retention.deleted(bench.at(100), vec![record], 9, 8);
    assert!(!bench.retention.refused(&id, lease, bench.at(99)), "before the deletion");
    assert!(!bench.retention.refused(&id, other, bench.at(200)), "another incarnation");
    assert!(!bench.retention.refused(&id, None, bench.at(200)));
    assert!(bench.retention.refused(&id, lease, bench.at(200)));
    assert!(bench.retained(200).is_empty());
    assert!(!bench.retention.refused(&id, lease, bench.at(300)), "no longer retained");
}

#[test]
fn retention_ends_when_the_store_lists_the_instance_again() {
    let mut bench = Bench::of(9);
    bench.delete(0, &["1", "2"]);
    bench.put("1");
    assert_eq!(bench.retained(1), ["2"]);
}

#[test]
fn the_loss_of_half_of_the_instances_retains_each_for_the_full_hold_time() {
    let mut bench = Bench::of(4);
    bench.delete(0, &["1"]);
    bench.delete(3_000, &["2"]);
    assert_eq!(bench.retained(29_999), ["1", "2"]);
    assert_eq!(bench.retained(30_000), ["2"]);
    assert!(bench.retained(33_000).is_empty());
}

#[test]
fn the_loss_of_less_than_half_retains_for_the_regular_hold_time() {
    let mut bench = Bench::of(5);
    bench.delete(0, &["1", "2"]);
    bench.ends_at(4_000);
}

#[test]
fn a_loss_more_than_one_ttl_ago_does_not_count() {
    let mut bench = Bench::of(4);
    bench.delete(0, &["1"]);
    assert!(bench.retained(4_000).is_empty());
    bench.delete(9_001, &["2"]);
    bench.ends_at(13_001);
    let mut bench = Bench::of(4);
    bench.delete(0, &["1"]);
    bench.delete(9_000, &["2"]);
    assert_eq!(bench.retained(20_000), ["2"], "half of 4 within one ttl");
}

/// A quarter of the servers restarts at a time, without withdrawing.
#[test]
fn a_rolling_restart_does_not_count_as_a_mass_deletion() {
    let mut bench = Bench::of(8);
    for n in 0..40_u64 {
        let at = n * 500;
        bench.delete(at, &[&format!("{n}-a"), &format!("{n}-b")]);
        bench.put("new-a");
        bench.put("new-b");
    }
    assert!(bench.retained(19_500 + 4_000).is_empty());
}

#[test]
fn a_service_that_would_become_empty_is_retained_for_the_full_hold_time() {
    let mut bench = Bench::of(1);
    bench.delete(0, &["1"]);
    bench.ends_at(30_000);
}

#[test]
fn a_deletion_soon_after_trouble_is_retained_for_the_full_hold_time() {
    let mut bench = Bench::of(9);
    bench.trouble(5_000);
    bench.delete(34_999, &["1"]);
    bench.ends_at(64_999);
    bench.delete(70_000, &["2"]);
    bench.ends_at(74_000);
}

#[test]
fn trouble_extends_retention() {
    let mut bench = Bench::of(9);
    bench.delete(0, &["1"]);
    bench.retention.broken();
    assert_eq!(bench.retention.next_expiry(), None);
    assert_eq!(bench.retained(100_000), ["1"], "nothing ends while the store does not answer");
    bench.retention.recovered(bench.at(100_000));
    bench.ends_at(130_000);
}

#[test]
fn the_full_hold_time_restarts_after_each_trouble() {
    let mut bench = Bench::of(9);
    bench.trouble(0);
    bench.delete(1_000, &["1"]);
    bench.trouble(20_000);
    bench.ends_at(50_000);
}

#[test]
fn a_disruption_that_cost_no_lease_extends_nothing() {
    let mut bench = Bench::of(9);
    bench.delete(0, &["1"]);
    let before = bench.retention.recovered_at();
    bench.retention.broken();
    bench.retention.resumed(before);
    bench.ends_at(4_000);
    // Nor does it shorten the time after earlier trouble.
    bench.trouble(10_000);
    let before = bench.retention.recovered_at();
    bench.retention.broken();
    bench.retention.resumed(before);
    bench.delete(20_000, &["2"]);
    bench.ends_at(50_000);
}

#[test]
fn a_deletion_during_a_disruption_is_doubtful_only_if_it_may_have_cost_a_lease() {
    for (is_trouble, end) in [(false, 5_000), (true, 32_000)] {
        let mut bench = Bench::of(9);
        bench.retention.broken();
        bench.delete(1_000, &["1"]);
        if is_trouble {
            bench.retention.recovered(bench.at(2_000));
        } else {
            bench.retention.resumed(None);
        }
        bench.ends_at(end);
    }
}

#[test]
fn the_full_hold_time_is_two_ttls_if_that_is_longer() {
    let mut bench = Bench::of(1);
    let record = record("1").with_ttl(Duration::from_secs(60));
    bench.retention.deleted(bench.at(0), vec![record], 1, 0);
    bench.ends_at(120_000);
}

#[test]
fn nothing_is_retained_if_retention_is_off() {
    let mut bench = Bench { retention: Retention::new(None), ..Bench::of(2) };
    bench.trouble(0);
    bench.delete(1, &["1", "2"]);
    assert!(bench.retained(1).is_empty());
    assert_eq!(bench.retention.next_expiry(), None);
}
