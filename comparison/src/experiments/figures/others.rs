//! Calls in memory, beside 10,000 services that they do not ask for.

use crate::harness::{Comparison, Figures, Plan, compare, plan, prepare};
use crate::workloads::{Workload, mem_with_others};
use anyhow::Result;

const OTHERS: usize = 10_000;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    // One takes as long as a few looks at the clock.
    let plan = Plan { batch: 100, ..plan(quick) };
    for workload in [Workload::Register, Workload::KeepAlive, Workload::Load(10)] {
        // Two registries are never the same in where they lie in memory: A/A shows what that makes.
        let (within, alone) = (mem_with_others(OTHERS).await?, mem_with_others(0).await?);
        let runners = prepare([&within, &alone, &mem_with_others(0).await?], workload).await?;
        let rounds = compare(runners, plan).await?;
        let arms = ["beside 10,000", "alone"];
        figures.add_comparison(workload, arms, &Comparison::new(&rounds), |x| x.at_most(1.1));
    }
    Ok(figures)
}
