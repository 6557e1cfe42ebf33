//! The claims about Redis as a registry, each tested by an experiment.

pub mod delivery;
pub mod deployment;
pub mod figures;
pub mod latency;
pub mod observation;
pub mod observers;
pub mod partition;
pub mod persistence;
pub mod score;
pub mod versioning;

use crate::harness::StoreOptions;
use crate::report::finding::Finding;
use anyhow::{Context, Result};
use clap::ValueEnum;
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The seed of the workload and the faults.
    pub seed: u64,
    /// How often each measurement is repeated, each time in another order.
    pub rounds: u32,
    /// Whether to do less of everything.
    pub quick: bool,
}

/// A callback for the progress of an experiment: a line, and a share from 0 to 1.
pub type Progress<'a> = &'a dyn Fn(&str, f64);
/// The timeout of one round of an experiment; most take less than a minute.
const ROUND_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The timeout of a step in a round that usually takes less than a failover.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between two polls or two retries.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Experiment {
    /// Which changes a disconnected observer misses, and whether it detects that.
    Versioning,
    /// What a paused observer misses.
    Delivery,
    /// How soon an observer sees a change and an expiry.
    Latency,
    /// Which writes are lost when the primary or leader is partitioned.
    Partition,
    /// Which writes a crashed server loses, and which instances are listed after an outage.
    Persistence,
}

impl Experiment {
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Runs the experiment and returns every figure of every round. Fails if a fault had no effect.
    pub async fn run(
        self,
        at: StoreOptions,
        effort: Effort,
        progress: Progress<'_>,
    ) -> Result<Value> {
        match self {
            Self::Versioning => versioning::run(at, effort, progress).await,
            Self::Delivery => delivery::run(at, effort, progress).await,
            Self::Latency => latency::run(at, effort, progress).await,
            Self::Partition => partition::run(at, effort, progress).await,
            Self::Persistence => persistence::run(at, effort, progress).await,
        }
    }

    /// Evaluates the figures of a run.
    pub fn evaluate(self, raw: Value, effort: Effort) -> Result<Finding> {
        let evaluate = match self {
            Self::Versioning => versioning::evaluate,
            Self::Delivery => delivery::evaluate,
            Self::Latency => latency::evaluate,
            Self::Partition => partition::evaluate,
            Self::Persistence => persistence::evaluate,
        };
        evaluate(raw, effort).with_context(|| format!("invalid figures of {}", self.name()))
    }
}

/// Runs rounds of all arms. The arms of a round run concurrently, so that all have the same machine.
async fn side_by_side<A: Copy + Ord, R>(
    arms: &[A],
    effort: Effort,
    progress: Progress<'_>,
    once: impl AsyncFn(A, u32) -> Result<R>,
) -> Result<BTreeMap<A, Vec<R>>> {
    let mut runs = BTreeMap::<_, Vec<_>>::new();
    for round in 0..effort.rounds {
        let share = f64::from(round) / f64::from(effort.rounds);
        progress(&format!("round {} of {}", round + 1, effort.rounds), share);
        let all =
            arms.iter().map(async |arm| anyhow::Ok((*arm, with_timeout(once(*arm, round)).await?)));
        for (arm, run) in try_join_all(all).await? {
            runs.entry(arm).or_default().push(run);
        }
    }
    Ok(runs)
}

/// Polls until `look` returns a value.
async fn poll<T>(missing: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(TIMEOUT, looking).await.with_context(|| format!("{missing}, within {TIMEOUT:?}"))
}

/// Polls until `is_so` holds.
async fn wait_until(missing: &str, is_so: impl Fn() -> bool) -> Result<()> {
    poll(missing, async || is_so().then_some(())).await
}

/// Runs a round with a deadline: a stalled server fails the round.
async fn with_timeout<R>(round: impl Future<Output = Result<R>>) -> Result<R> {
    timeout(ROUND_TIMEOUT, round)
        .await
        .with_context(|| format!("no end after {ROUND_TIMEOUT:?}"))?
}

fn repeat(name: &str, effort: Effort) -> String {
    let Effort { seed, rounds, quick } = effort;
    let quick = if quick { " --quick" } else { "" };
    format!(
        "cargo run --release -p comparison -- report --only {name} --seed {seed} --rounds {rounds}{quick}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_round_times_out() {
        let error = with_timeout(pending::<Result<()>>()).await.unwrap_err();
        assert!(error.to_string().contains("no end after 600s"), "{error}");
    }
}
