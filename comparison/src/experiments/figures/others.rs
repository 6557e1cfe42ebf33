//! The time of calls in a memory store with 10,000 other services.

use crate::harness::{Comparison, Figures, Plan, compare, plan, prepare};
use crate::workloads::{Workload, mem_with_others};
use anyhow::Result;

const OTHER_SERVICES: usize = 10_000;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    // Batches of 100 calls, because one call takes only a few times as long as reading the clock.
    let plan = Plan { batch: 100, ..plan(quick) };
    for workload in [Workload::Register, Workload::KeepAlive, Workload::Load(10)] {
        // A/A compares two registries, because their placement in memory affects the time of a call.
        let (crowded, alone) = (mem_with_others(OTHER_SERVICES).await?, mem_with_others(0).await?);
        let runners = prepare([&crowded, &alone, &mem_with_others(0).await?], workload).await?;
        let rounds = compare(runners, plan).await?;
        let arms = ["with 10,000 others", "alone"];
        figures.add_comparison(workload, arms, &Comparison::new(&rounds), |x| x.at_most(1.1));
    }
    Ok(figures)
}
