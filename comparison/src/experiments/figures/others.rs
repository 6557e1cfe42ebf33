//! Calls to the memory store, beside 10,000 other services.

use crate::harness::{Comparison, Figures, Plan, compare, plan, prepare};
use crate::workloads::{Workload, mem_with_others};
use anyhow::Result;

const OTHERS: usize = 10_000;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    // A call takes about as long as reading the clock a few times.
    let plan = Plan { batch: 100, ..plan(quick) };
    for workload in [Workload::Register, Workload::KeepAlive, Workload::Load(10)] {
        // Registries differ in their placement in memory, and A/A shows the effect.
        let (within, alone) = (mem_with_others(OTHERS).await?, mem_with_others(0).await?);
        let runners = prepare([&within, &alone, &mem_with_others(0).await?], workload).await?;
        let rounds = compare(runners, plan).await?;
        let arms = ["beside 10,000", "alone"];
        figures.add_comparison(workload, arms, &Comparison::new(&rounds), |x| x.at_most(1.1));
    }
    Ok(figures)
}
