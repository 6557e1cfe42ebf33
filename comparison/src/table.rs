//! The figures as plain text.

use crate::paired::{Comparison, Spread};
use std::iter::once;
use std::{array, fmt};

const COLUMNS: usize = 7;

/// Figures, one row for each operation and store.
#[derive(Clone, Debug)]
pub struct Table {
    head: [String; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
    void: bool,
}

impl Table {
    /// A table of two things compared.
    pub fn new(first: &str, second: &str) -> Self {
        let head = ["operation", "store", first, second, "ratio  ", "min..max", "A/A (min..max)"];
        Self { head: head.map(str::to_owned), rows: Vec::new(), void: false }
    }

    /// Adds a comparison.
    pub fn add(&mut self, operation: impl fmt::Display, store: &str, figures: &Comparison) {
        let Comparison { first, second, ratio, floor } = figures;
        let mark = if figures.is_sound() { ' ' } else { '!' };
        self.void |= !figures.is_sound();
        self.rows.push([
            operation.to_string(),
            store.to_owned(),
            seconds(*first),
            seconds(*second),
            format!("{:.2} {mark}", ratio.median),
            range(ratio),
            format!("{:.2} ({})", floor.median, range(floor)),
        ]);
    }

    /// Adds what there is nothing to compare with.
    pub fn add_alone(&mut self, operation: impl fmt::Display, store: &str, seconds: f64) {
        let [a, b, c, d] = ["-", "-  ", "-", "-"].map(str::to_owned);
        self.rows.push([
            operation.to_string(),
            store.to_owned(),
            self::seconds(seconds),
            a,
            b,
            c,
            d,
        ]);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_aligned(f, &self.head, &self.rows, 2)?;
        if self.void {
            writeln!(f, "! void: A/A left 0.98..1.02; repeat it when the machine is quieter")?;
        }
        Ok(())
    }
}

/// Writes a line for the head and for each row. So many columns to the left are words, the others figures.
pub(crate) fn write_aligned<const COLUMNS: usize>(
    f: &mut fmt::Formatter<'_>,
    head: &[String; COLUMNS],
    rows: &[[String; COLUMNS]],
    words: usize,
) -> fmt::Result {
    let lines = || once(head).chain(rows);
    let mut widths = [0; COLUMNS];
    for line in lines() {
        widths = array::from_fn(|n| widths[n].max(line[n].len()));
    }
    for line in lines() {
        for (n, (cell, width)) in line.iter().zip(widths).enumerate() {
            let gap = if n == 0 { "" } else { "  " };
            if n < words {
                write!(f, "{gap}{cell:<width$}")?;
            } else {
                write!(f, "{gap}{cell:>width$}")?;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn range(spread: &Spread) -> String {
    format!("{:.2}..{:.2}", spread.min, spread.max)
}

/// A time, in the unit that suits it.
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
    fn columns_are_aligned_and_void_rows_are_marked() {
        let spread = |median| Spread { median, min: median - 0.1, max: median + 0.1 };
        let figures = |first, floor| Comparison {
            first,
            second: 0.5e-3,
            ratio: spread(first / 0.5e-3),
            floor: spread(floor),
        };
        let mut table = Table::new("ours", "raw");
        table.add_alone("register", "mem", 2.5e-7);
        table.add("register", "etcd", &figures(1.0e-3, 1.0));
        assert!(!table.to_string().contains("void"));
        table.add("keep_alive", "redis", &figures(0.6e-3, 1.05));
        let expected = [
            "operation   store      ours       raw  ratio      min..max     A/A (min..max)",
            "register    mem      250 ns         -      -             -                  -",
            "register    etcd    1.00 ms  500.0 us   2.00    1.90..2.10  1.00 (0.90..1.10)",
            "keep_alive  redis  600.0 us  500.0 us   1.20 !  1.10..1.30  1.05 (0.95..1.15)",
            "! void: A/A left 0.98..1.02; repeat it when the machine is quieter",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), expected);
    }
}
