//! A large service, loaded and in a live view.

use crate::harness::{Comparison, Figure, Figures, Plan, Server, Store, compare, prepare};
use crate::workloads::Workload;
use anyhow::{Context, Result};
use std::time::Duration;

pub(super) async fn figures(store: Store, quick: bool) -> Result<Figures> {
    let (many, rounds) = if quick { (2_000, 3) } else { (20_000, 9) };
    let plan = Plan { rounds, round: Duration::ZERO, turns: 1, batch: 1 };
    let server = Server::start(store).await?;
    let mut figures = Figures::default();
    let (ours, raw) = (server.ours().await?, server.raw().await?.context("no raw client")?);
    for workload in [Workload::Load(many), Workload::Follow(many)] {
        let rounds = compare(prepare([&*ours, &*raw, &*raw], workload).await?, plan).await?;
        let target = |figure: Figure| figure.at_most(1.25).aim(1.05);
        figures.add_comparison(workload, ["ours", "raw"], &Comparison::new(&rounds), target);
    }
    figures.note(server.description());
    figures.note("raw reads the same pages and decodes the same records");
    figures.note("follow: until a view is live; raw reads the revision, loads, and opens a watch");
    Ok(figures)
}
