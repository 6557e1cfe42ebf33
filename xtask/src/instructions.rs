//! Compares the instruction counts of the hot paths with committed baselines.
//!
//! Times vary by more than a typical regression, but instruction counts do not depend on the load of the
//! machine. `comparison/benches/instructions.rs` has the hot paths.

mod baseline;
mod compare;
mod count;

use anyhow::{Result, bail};

use self::baseline::{Baseline, Toolchain};
pub(crate) use self::count::provide;

use self::compare::{Row, Verdict};
use crate::command::step;

/// Counts, and prints a table. Fails if a count is out of its tolerance, or with `accept` writes the baselines.
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
        step(&format!("wrote the new baselines to {}", baseline::FILE));
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

/// Returns the message of a failure: the counts, and what to do.
fn complaint(bad: &[&Row<'_>], others: &[String]) -> String {
    let mut text = format!("{} counts differ from their baselines:", bad.len());
    for row in bad {
        text.push_str("\n  ");
        text.push_str(&row.complaint());
    }
    if !others.is_empty() {
        let others = others.join("; ");
        text.push_str(
            "\nThe baselines were counted with another toolchain, which may be the cause: ",
        );
        text.push_str(&others);
        text.push_str(
            ". It is the cause if the previous commit differs by as much on this machine.",
        );
    }
    text.push_str(
        "\nIf the change is intended: run cargo xtask instructions --accept, and give the reason in the commit.",
    );
    text
}
