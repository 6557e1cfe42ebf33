//! Aligned tables as plain text.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::fmt;
use std::iter::once;

/// The percentiles in the columns between the minimum and maximum.
const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// A table whose first `words` columns are left-aligned. The others are right-aligned.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    words: usize,
}

/// The durations of many operations.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Table {
    pub fn new<S: ToString>(words: usize, head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().map(|cell| cell.to_string()).collect();
        Self { head, rows: Vec::new(), words }
    }

    /// Returns a table of percentiles.
    pub fn percentiles() -> Self {
        let [p50, p90, p99, p999] = PERCENTILES.map(|percent| format!("p{percent}"));
        let head = ["operation", "store", "arm", "n", "min", &p50, &p90, &p99, &p999, "max"];
        Self::new(3, head)
    }

    pub fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the percentiles of one contender.
    pub fn add_latencies(
        &mut self,
        operation: impl fmt::Display,
        store: &str,
        arm: &str,
        latencies: &Latencies,
    ) -> Result<()> {
        let (min, max) = latencies.range().context("no operation was recorded")?;
        let [p50, p90, p99, p999] = PERCENTILES
            .map(|percent| latencies.percentile(percent).map_or_else(|| "-".to_owned(), seconds));
        let [operation, store, arm] = [operation.to_string(), store.to_owned(), arm.to_owned()];
        let count = latencies.0.len().to_string();
        let (min, max) = (seconds(min), seconds(max));
        self.add([operation, store, arm, count, min, p50, p90, p99, p999, max]);
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for line in lines() {
            for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let gap = if n == 0 { "" } else { "  " };
                if n < self.words {
                    write!(f, "{gap}{cell:<width$}")?;
                } else {
                    write!(f, "{gap}{cell:>width$}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Latencies {
    /// Records operations that took these seconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "fits 584 years")]
    pub fn new(operations: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut histogram = Histogram::new(3)?;
        for seconds in operations {
            histogram.record((seconds * 1e9).round() as u64)?;
        }
        Ok(Self(histogram))
    }

    /// Returns a percentile in seconds, or `None` if it would be the maximum: 200 operations have no 99.9th percentile.
    #[expect(clippy::cast_precision_loss, reason = "there are no 2^53 operations")]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let beyond = self.0.len() as f64 * (100.0 - percent) / 100.0;
        // Rounding puts 99.9 % of 1,000 above 999, which would select the maximum.
        (beyond >= 1.0 - 1e-9).then(|| nanoseconds(self.0.value_at_percentile(percent - 1e-9)))
    }

    /// Returns the minimum and maximum in seconds, or `None` without operations.
    pub fn range(&self) -> Option<(f64, f64)> {
        (!self.0.is_empty()).then(|| (nanoseconds(self.0.min()), nanoseconds(self.0.max())))
    }
}

#[expect(clippy::cast_precision_loss, reason = "good for 2^53 ns, 104 days")]
fn nanoseconds(count: u64) -> f64 {
    count as f64 / 1e9
}

/// Formats a time in ns, us or ms.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 1e-6 {
        format!("{:.0} ns", seconds * 1e9)
    } else if seconds < 1e-3 {
        format!("{:.1} us", seconds * 1e6)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_equal_to_the_maximum_is_not_reported() {
        let few = Latencies::new((1..=100).map(|n| f64::from(n) * 1e-3)).unwrap();
        let close = |percent, to: f64| {
            let found = few.percentile(percent).unwrap();
            assert!((found - to).abs() < to * 2e-3, "{percent}: {found}");
        };
        close(50.0, 0.050);
        close(99.0, 0.099);
        assert_eq!(few.percentile(99.9), None);
        assert!(Latencies::new([]).unwrap().range().is_none());
    }

    #[test]
    fn rows_are_aligned() {
        let mut table = Table::percentiles();
        let many = Latencies::new((1..=1_000).map(|n| f64::from(n) * 1e-6)).unwrap();
        table.add_latencies("register", "etcd", "ours", &many).unwrap();
        let few = Latencies::new([2.0e-3, 2.0e-3, 2.5e-3]).unwrap();
        table.add_latencies("resume/1000", "redis", "raw", &few).unwrap();
        let expected = [
            "operation    store  arm      n      min       p50       p90       p99     p99.9      max",
            "register     etcd   ours  1000   1.0 us  500.2 us  900.1 us  990.2 us  999.4 us  1.00 ms",
            "resume/1000  redis  raw      3  2.00 ms   2.00 ms         -         -         -  2.50 ms",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), expected);
        assert!(table.add_latencies("none", "mem", "ours", &Latencies::new([]).unwrap()).is_err());
    }
}
