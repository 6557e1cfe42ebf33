//! The plan: the runs to execute.

use crate::cell::{Cell, RunSpec};
use crate::options::Options;
use crate::schedule::Schedule;
use crate::topology::Topology;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Returns the runs, the longest first.
pub(crate) fn plan(options: &Options) -> Result<Vec<RunSpec>> {
    let mut runs = Vec::new();
    for cell in cells(options)? {
        for repeat in 1..=options.repeats() {
            runs.push(RunSpec {
                cell,
                owners: options.owners.into(),
                seed: cell.seed(options.seed, repeat),
                quick: options.quick,
                without_retention: options.without_retention,
            });
        }
    }
    ensure!(!runs.is_empty(), "none of these schedules runs on these servers with these ttls");
    runs.sort_by_key(|run| std::cmp::Reverse(estimate(run)));
    Ok(runs)
}

/// Estimates how long a run takes.
pub(crate) fn estimate(run: &RunSpec) -> Duration {
    run.cell.schedule.estimate(run.cell.topology, run.cell.ttl(), run.quick)
}

fn cells(options: &Options) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for schedule in options.schedules()? {
        for topology in Topology::ALL {
            let is_asked = (options.store.is_empty() || options.store.contains(&topology.store()))
                && (options.topology.is_empty() || options.topology.contains(&topology));
            if is_asked && schedule.runs_on(topology) {
                let ttls = ttls(options, schedule, topology);
                cells.extend(ttls.into_iter().map(|ttl| Cell::new(schedule, topology, ttl)));
            }
        }
    }
    Ok(cells)
}

fn ttls(options: &Options, schedule: Schedule, topology: Topology) -> Vec<Duration> {
    let usual = [2, 5, 10].map(Duration::from_secs);
    let mut ttls: Vec<Duration> = match &options.ttl[..] {
        [] => usual.to_vec(),
        chosen => chosen.to_vec(),
    };
    ttls.retain(|ttl| schedule.runs_with(*ttl));
    if options.quick && options.ttl.is_empty() {
        ttls.truncate(1);
    }
    let is_chosen = !options.schedule.is_empty() || !options.topology.is_empty();
    if options.quick && !is_chosen && !schedule.is_quick(topology) {
        ttls.clear();
    }
    ttls
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn cells_of(line: &str) -> Vec<String> {
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        cells(&options).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_full_form_runs_every_schedule() {
        let all = cells_of("faults");
        assert!(all.contains(&"A6 redis cluster 10s".to_owned()), "{all:?}");
        assert!(!all.contains(&"A3 etcd three 2s".to_owned()), "{all:?}");
        assert!(
            Schedule::ALL
                .iter()
                .all(|one| all.iter().any(|cell| cell.starts_with(&format!("{one} "))))
        );
    }

    #[test]
    fn the_short_form_runs_one_ttl() {
        let quick = cells_of("faults --quick");
        assert!(quick.contains(&"A3 etcd three 5s".to_owned()), "{quick:?}");
        assert!(
            quick.iter().all(|cell| cell.starts_with("A3") || cell.ends_with(" 2s")),
            "{quick:?}"
        );
        assert_eq!(
            cells_of("faults --quick --schedule A6 --topology cluster"),
            ["A6 redis cluster 2s"]
        );
    }
}
