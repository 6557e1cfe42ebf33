//! The rules, one by one, by the clock of the tests' own making.

use super::*;
use registry_core::Instance;

const TTL: Duration = Duration::from_secs(10);

struct Bench {
    retention: Retention,
    start: Instant,
}

impl Bench {
    fn new(ttl: Option<Duration>) -> Self {
        Self { retention: Retention::new(ttl), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// An outage that a view of `size` instances saw from 0 s to 5 s.
    fn after_trouble(size: usize) -> Self {
        let mut bench = Self::new(Some(TTL));
        bench.retention.trouble(bench.at(0), size);
        bench.retention.recovered(bench.at(5));
        bench
    }

    /// A watch says that `id` is gone, after which the store lists `left`.
    fn delete(&mut self, seconds: u64, id: &str, left: usize) {
        self.retention.deleted(self.at(seconds), record(id), left + 1);
    }

    fn confirm(&mut self, seconds: u64, loaded: &[&str]) {
        let loaded = loaded.iter().map(|id| record(id)).collect();
        self.retention.confirm(self.at(seconds), &loaded);
    }

    fn reset(&mut self, seconds: u64, loaded: &[&str], gone: &[&str]) {
        let loaded = loaded.iter().map(|id| record(id)).collect();
        let gone = gone.iter().map(|id| record(id)).collect();
        self.retention.reset(self.at(seconds), &loaded, gone);
    }

    fn retained(&self) -> Vec<&str> {
        self.retention.retained().map(|retained| retained.record.id().as_str()).collect()
    }
}

fn record(id: &str) -> Record {
    let (service, id) = ("a".parse().unwrap(), id.parse().unwrap());
    Record::new(Instance::new(service, id, "h:1".parse().unwrap()))
}

#[test]
fn a_deletion_on_a_healthy_watch_applies_at_once() {
    let mut bench = Bench::new(Some(TTL));
    for id in ["1", "2", "3", "4"] {
        bench.delete(1, id, 4);
    }
    assert!(bench.retained().is_empty());
}

#[test]
fn less_than_half_deleted_after_trouble_applies_at_once() {
    let mut bench = Bench::after_trouble(5);
    bench.delete(6, "1", 4);
    bench.delete(6, "2", 3);
    assert!(bench.retained().is_empty());
}

#[test]
fn a_mass_deletion_within_one_ttl_of_trouble_retains_each_from_its_own_deletion() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    assert!(bench.retained().is_empty());
    bench.delete(14, "2", 2);
    assert_eq!(bench.retained(), ["1", "2"]);
    bench.delete(14, "3", 1);
    assert_eq!(bench.retained(), ["1", "2", "3"]);
    let since: Vec<Instant> = bench.retention.retained().map(|retained| retained.since).collect();
    assert_eq!(since, [bench.at(6), bench.at(14), bench.at(14)]);
}

#[test]
fn the_only_instance_of_a_service_is_not_retained() {
    let mut bench = Bench::after_trouble(1);
    bench.delete(6, "1", 0);
    assert!(bench.retained().is_empty(), "one is not two");
}

#[test]
fn one_ttl_after_the_recovery_deletions_apply_at_once() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(15, "1", 3);
    bench.delete(15, "2", 2);
    assert!(bench.retained().is_empty());
}

#[test]
fn recurring_trouble_continues() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.trouble(bench.at(14), 3);
    bench.retention.recovered(bench.at(20));
    bench.delete(29, "2", 2);
    assert_eq!(bench.retained(), ["1", "2"]);
}

#[test]
fn an_instance_missing_for_longer_than_the_hold_time_does_not_return() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.trouble(bench.at(14), 3);
    bench.retention.recovered(bench.at(40));
    bench.delete(49, "2", 2);
    assert!(bench.retained().is_empty());
}

#[test]
fn the_half_of_a_service_that_grew_counts_its_present_size() {
    let mut bench = Bench::after_trouble(0);
    bench.delete(6, "1", 99);
    bench.delete(6, "2", 98);
    assert!(bench.retained().is_empty());
}

#[test]
fn a_mass_deletion_does_not_taint_the_next_trouble() {
    let mut bench = Bench::after_trouble(2);
    bench.delete(6, "1", 1);
    bench.delete(6, "2", 0);
    assert_eq!(bench.retained(), ["1", "2"]);
    bench.retention.trouble(bench.at(14), 100);
    bench.retention.recovered(bench.at(15));
    bench.delete(16, "3", 99);
    assert_eq!(bench.retained(), ["1", "2"]);
}

#[test]
fn an_instance_that_is_deleted_and_listed_again_does_not_count() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.listed(record("1").id());
    bench.delete(7, "2", 3);
    assert!(bench.retained().is_empty());
}

#[test]
fn an_instance_that_only_a_load_found_missing_is_retained() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &["1"], &["2"]);
    assert_eq!(bench.retained(), ["2"]);
}

#[test]
fn retention_ends_when_the_store_lists_the_instance_again() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1", "2", "3"]);
    bench.retention.listed(record("1").id());
    assert_eq!(bench.retained(), ["2", "3"]);
    bench.reset(1, &["2"], &[]);
    assert_eq!(bench.retained(), ["3"]);
}

#[test]
fn two_loads_one_ttl_apart_confirm_a_deletion() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1"]);
    assert_eq!(bench.retention.next_load(), Some(bench.at(10)), "the reset was the first");
    bench.confirm(9, &[]);
    assert_eq!(bench.retained(), ["1"], "too early");
    bench.confirm(10, &[]);
    assert!(bench.retained().is_empty());
    assert_eq!(bench.retention.next_load(), None);
}

#[test]
fn a_mass_deletion_is_confirmed_only_by_two_later_loads() {
    let mut bench = Bench::after_trouble(2);
    bench.delete(6, "1", 1);
    bench.delete(6, "2", 0);
    assert_eq!(bench.retention.next_load(), Some(bench.at(6)));
    bench.confirm(6, &[]);
    assert_eq!(bench.retention.next_load(), Some(bench.at(16)));
    bench.confirm(16, &[]);
    assert!(bench.retained().is_empty());
}

#[test]
fn new_trouble_discards_a_half_made_confirmation() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1"]);
    bench.retention.trouble(bench.at(5), 1);
    bench.retention.recovered(bench.at(9));
    bench.confirm(10, &[]);
    assert_eq!(bench.retained(), ["1"], "the first load since the trouble");
    bench.confirm(20, &[]);
    assert!(bench.retained().is_empty());
}

#[test]
fn a_load_that_lists_the_instance_restarts_the_confirmation() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1"]);
    bench.confirm(10, &["1"]);
    bench.confirm(20, &[]);
    assert_eq!(bench.retained(), ["1"]);
    bench.confirm(30, &[]);
    assert!(bench.retained().is_empty());
}

#[test]
fn retention_ends_after_two_ttls_or_30_seconds() {
    for (ttl, limit) in [(1, 30), (10, 30), (20, 40)] {
        let mut bench = Bench::new(Some(Duration::from_secs(ttl)));
        bench.reset(0, &[], &["1"]);
        bench.retention.trouble(bench.at(1), 1); // so that no load confirms the loss
        bench.reset(limit - 1, &[], &["2"]);
        assert_eq!(bench.retention.next_expiry(), Some(bench.at(limit)));
        bench.retention.expire(bench.at(limit));
        assert!(!bench.retained().contains(&"1"), "ttl {ttl} s");
        assert!(bench.retained().contains(&"2"), "ttl {ttl} s");
    }
}

#[test]
fn a_failed_load_is_repeated_one_ttl_later() {
    let mut bench = Bench::after_trouble(2);
    bench.delete(6, "1", 1);
    bench.delete(6, "2", 0);
    bench.retention.postpone(bench.at(7));
    assert_eq!(bench.retention.next_load(), Some(bench.at(17)));
}

#[test]
fn off_keeps_nothing() {
    let mut bench = Bench::new(None);
    bench.retention.trouble(bench.at(0), 2);
    bench.retention.recovered(bench.at(1));
    bench.delete(2, "1", 1);
    bench.delete(2, "2", 0);
    bench.reset(3, &[], &["3"]);
    assert!(bench.retained().is_empty());
    assert_eq!((bench.retention.next_expiry(), bench.retention.next_load()), (None, None));
}
