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
        self.retention.deleted(self.at(seconds), instance(id), left + 1);
    }

    fn confirm(&mut self, seconds: u64, loaded: &[&str]) {
        let loaded = loaded.iter().map(|id| instance(id)).collect();
        self.retention.confirm(self.at(seconds), &loaded);
    }

    fn reset(&mut self, seconds: u64, loaded: &[&str], gone: &[&str]) {
        let loaded = loaded.iter().map(|id| instance(id)).collect();
        let gone = gone.iter().map(|id| instance(id)).collect();
        self.retention.reset(self.at(seconds), &loaded, gone);
    }

    fn retained(&self) -> Vec<&str> {
        self.retention.retained().map(|retained| retained.instance.id().as_str()).collect()
    }
}

fn instance(id: &str) -> Instance {
    Instance::new("a".parse().unwrap(), id.parse().unwrap(), "h:1".parse().unwrap())
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
fn half_deleted_within_a_ttl_of_trouble_is_kept_all_of_it_from_its_own_deletion_on() {
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
fn the_last_of_one_is_not_protected() {
    let mut bench = Bench::after_trouble(1);
    bench.delete(6, "1", 0);
    assert!(bench.retained().is_empty(), "one is not two");
}

#[test]
fn a_ttl_after_the_recovery_nothing_is_suspected_any_more() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(15, "1", 3);
    bench.delete(15, "2", 2);
    assert!(bench.retained().is_empty());
}

#[test]
fn trouble_that_returns_goes_on() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.trouble(bench.at(14), 3);
    bench.retention.recovered(bench.at(20));
    bench.delete(29, "2", 2);
    assert_eq!(bench.retained(), ["1", "2"]);
}

#[test]
fn what_was_gone_for_longer_than_it_could_be_kept_does_not_come_back() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.trouble(bench.at(14), 3);
    bench.retention.recovered(bench.at(40));
    bench.delete(49, "2", 2);
    assert!(bench.retained().is_empty());
}

#[test]
fn half_of_a_service_that_grew_since_the_trouble_is_half_of_what_it_is_now() {
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
fn what_is_deleted_and_listed_again_is_not_counted() {
    let mut bench = Bench::after_trouble(4);
    bench.delete(6, "1", 3);
    bench.retention.listed(instance("1").id());
    bench.delete(7, "2", 3);
    assert!(bench.retained().is_empty());
}

#[test]
fn what_only_a_load_found_gone_is_kept() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &["1"], &["2"]);
    assert_eq!(bench.retained(), ["2"]);
}

#[test]
fn what_the_store_lists_again_is_let_go() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1", "2", "3"]);
    bench.retention.listed(instance("1").id());
    assert_eq!(bench.retained(), ["2", "3"]);
    bench.reset(1, &["2"], &[]);
    assert_eq!(bench.retained(), ["3"]);
}

#[test]
fn two_loads_a_ttl_apart_confirm_a_loss() {
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
fn a_mass_deletion_is_confirmed_by_two_loads_of_which_none_was_made_yet() {
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
fn new_trouble_takes_back_what_was_confirmed_by_half() {
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
fn a_load_that_lists_it_begins_the_confirmation_anew() {
    let mut bench = Bench::new(Some(TTL));
    bench.reset(0, &[], &["1"]);
    bench.confirm(10, &["1"]);
    bench.confirm(20, &[]);
    assert_eq!(bench.retained(), ["1"]);
    bench.confirm(30, &[]);
    assert!(bench.retained().is_empty());
}

#[test]
fn nothing_is_kept_for_longer_than_two_ttls_or_30_seconds() {
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
fn a_load_that_failed_is_repeated_a_ttl_later() {
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
