//! The instructions of the hot paths, held against baselines that are committed.
//!
//! Times differ by more than a regression does; instructions do not differ, whatever else the
//! machine does. What is counted is in `comparison/benches/instructions.rs`.

mod baseline;
mod compare;
mod count;

use anyhow::{Result, bail};

use self::baseline::{Baseline, Toolchain};
pub(crate) use self::count::provide;

use self::compare::{Row, Verdict};
use crate::command::step;

/// Counts, prints a table, and fails if a count is not its baseline any more; or makes it that.
pub(crate) fn run(accept: bool) -> Result<()> {
    let counts = count::run()?;
    let toolchain = Toolchain::here()?;
    let before = Baseline::read()?;
    let rows = compare::rows(before.as_ref(), &counts);
    println!();
    compare::print(&rows);
    println!();
    if accept {
        Baseline::new(toolchain, counts, before.as_ref()).write()?;
        step(&format!("these are the baselines now, in {}", baseline::FILE));
        return Ok(());
    }
    let Some(before) = &before else {
        bail!("there are no baselines: cargo xtask instructions --accept");
    };
    let others = before.toolchain.differences(&toolchain);
    for other in &others {
        step(&format!("the toolchain differs from that of the baselines: {other}"));
    }
    let bad: Vec<&Row<'_>> = rows.iter().filter(|row| row.verdict() != Verdict::Within).collect();
    if bad.is_empty() {
        step("every count is within its tolerance");
        return Ok(());
    }
    bail!(complaint(&bad, &others))
}

/// What is wrong, and what to do about it.
fn complaint(bad: &[&Row<'_>], others: &[String]) -> String {
    let mut text = format!("{} of the counts are not their baselines any more:", bad.len());
    for row in bad {
        text.push_str("\n  ");
        text.push_str(&row.complaint());
    }
    if !others.is_empty() {
        let others = others.join("; ");
        text.push_str(
            "\nThe baselines were taken with another toolchain, which alone may explain it: ",
        );
        text.push_str(&others);
        text.push_str(". If the commit before this one is as far off here, it does.");
    }
    text.push_str(
        "\nIf it is meant: cargo xtask instructions --accept, and say why where it is committed.",
    );
    text
}
