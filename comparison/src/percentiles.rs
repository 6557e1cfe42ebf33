//! How operations are spread over time: not only the one in the middle.

use crate::table::{seconds, write_aligned};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::fmt;

const COLUMNS: usize = 10;

/// What is printed between the least and the most, in percent.
const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// How long each of many operations took.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// Latencies, one row for each operation, store and contender.
#[derive(Clone, Debug)]
pub struct Percentiles {
    head: [String; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl Latencies {
    /// Of operations that took so many seconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it fits 584 years"
    )]
    pub fn of(operations: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut histogram = Histogram::new(3)?;
        for seconds in operations {
            histogram.record((seconds * 1e9).round() as u64)?;
        }
        Ok(Self(histogram))
    }

    /// The seconds that so many percent of the operations do not exceed. Nothing where that would be the
    /// most, by another name: of 200 operations the 99.9th percentile is not known.
    #[expect(clippy::cast_precision_loss, reason = "there are no 2^53 operations")]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let beyond = self.0.len() as f64 * (100.0 - percent) / 100.0;
        // 99.9 % of 1,000 is rounded to something above 999, which would be the last.
        (beyond >= 1.0 - 1e-9).then(|| nanoseconds(self.0.value_at_percentile(percent - 1e-9)))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The least and the most, in seconds; nothing of none.
    pub fn range(&self) -> Option<(f64, f64)> {
        (!self.0.is_empty()).then(|| (nanoseconds(self.0.min()), nanoseconds(self.0.max())))
    }
}

#[expect(clippy::cast_precision_loss, reason = "good for 2^53 ns, 104 days")]
fn nanoseconds(count: u64) -> f64 {
    count as f64 / 1e9
}

impl Percentiles {
    /// A table without rows.
    pub fn new() -> Self {
        let [p50, p90, p99, p999] = PERCENTILES.map(|percent| format!("p{percent}"));
        let [operation, store, arm, count, min, max] =
            ["operation", "store", "arm", "n", "min", "max"].map(str::to_owned);
        let head = [operation, store, arm, count, min, p50, p90, p99, p999, max];
        Self { head, rows: Vec::new() }
    }

    /// Adds what one contender took.
    ///
    /// # Errors
    ///
    /// If that is nothing.
    pub fn add(
        &mut self,
        operation: impl fmt::Display,
        store: &str,
        arm: &str,
        latencies: &Latencies,
    ) -> Result<()> {
        let (min, max) = latencies.range().context("nothing was recorded")?;
        let [p50, p90, p99, p999] = PERCENTILES
            .map(|percent| latencies.percentile(percent).map_or_else(|| "-".to_owned(), seconds));
        let [operation, store, arm] = [operation.to_string(), store.to_owned(), arm.to_owned()];
        let count = latencies.count().to_string();
        let (min, max) = (seconds(min), seconds(max));
        self.rows.push([operation, store, arm, count, min, p50, p90, p99, p999, max]);
        Ok(())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Default for Percentiles {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_aligned(f, &self.head, &self.rows, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_equal_to_the_maximum_is_not_reported() {
        let few = Latencies::of((1..=100).map(|n| f64::from(n) * 1e-3)).unwrap();
        let close = |percent, to: f64| {
            let found = few.percentile(percent).unwrap();
            assert!((found - to).abs() < to * 2e-3, "{percent}: {found}");
        };
        close(50.0, 0.050);
        close(99.0, 0.099);
        assert_eq!(few.percentile(99.9), None);
        assert_eq!(few.count(), 100);
        assert!(Latencies::of([]).unwrap().range().is_none());
    }

    #[test]
    fn rows_are_aligned() {
        let mut table = Percentiles::new();
        assert!(table.is_empty());
        let many = Latencies::of((1..=1_000).map(|n| f64::from(n) * 1e-6)).unwrap();
        table.add("register", "etcd", "ours", &many).unwrap();
        let few = Latencies::of([2.0e-3, 2.0e-3, 2.5e-3]).unwrap();
        table.add("resume/1000", "redis", "raw", &few).unwrap();
        let expected = [
            "operation    store  arm      n      min       p50       p90       p99     p99.9      max",
            "register     etcd   ours  1000   1.0 us  500.2 us  900.1 us  990.2 us  999.4 us  1.00 ms",
            "resume/1000  redis  raw      3  2.00 ms   2.00 ms         -         -         -  2.50 ms",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), expected);
        assert!(table.add("none", "mem", "ours", &Latencies::of([]).unwrap()).is_err());
    }
}
