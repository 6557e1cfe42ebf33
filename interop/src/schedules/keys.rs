//! Keys and leases that are deleted by hand.

use crate::config::ZONE;
use crate::event::now;
use crate::figures::Marks;
use crate::operator::Operator;
use crate::spec::Language;
use crate::stage::Stage;
use anyhow::{Context, Result};
use std::time::Duration;

/// The timeout until a key is registered again. It is longer than any compared bound.
const RESTORED_WITHIN: Duration = Duration::from_secs(20);

/// Deletes the key of the first server.
pub(super) async fn key_deleted(stage: &mut Stage) -> Result<Vec<Marks>> {
    let operator = stage.operator()?.clone();
    stage
        .on_each_fleet(async |fleet, _, marks| {
            let (mut operator, address) = (operator.clone(), fleet.servers[0].address.clone());
            let entry = operator.entry(&fleet.key, &address).await?;
            operator.delete(&entry.context("the server has no key")?.key, false).await?;
            await_restoration(&mut operator, &fleet.key, &[address], marks).await;
            Ok(())
        })
        .await
}

/// Deletes the keys of all servers.
pub(super) async fn prefix_deleted(stage: &mut Stage) -> Result<Vec<Marks>> {
    let operator = stage.operator()?.clone();
    stage
        .on_each_fleet(async |fleet, _, marks| {
            let mut operator = operator.clone();
            operator.delete(&format!("{}/", fleet.key), true).await?;
            let servers = fleet.servers.iter().map(|server| server.address.clone());
            let servers: Vec<_> = servers.collect();
            await_restoration(&mut operator, &fleet.key, &servers, marks).await;
            Ok(())
        })
        .await
}

/// Revokes the lease of the first server.
pub(super) async fn lease_revoked(stage: &mut Stage) -> Result<Vec<Marks>> {
    let operator = stage.operator()?.clone();
    stage
        .on_each_fleet(async |fleet, _, marks| {
            let (mut operator, address) = (operator.clone(), fleet.servers[0].address.clone());
            let entry = operator.entry(&fleet.key, &address).await?;
            operator.revoke(entry.context("the server has no key")?.lease).await?;
            await_restoration(&mut operator, &fleet.key, &[address], marks).await;
            Ok(())
        })
        .await
}

/// Checks the side records of Rust servers, and deletes one.
pub(super) async fn side_keys(stage: &mut Stage) -> Result<Vec<Marks>> {
    let operator = stage.operator()?.clone();
    stage
        .on_each_fleet(async |fleet, _, marks| {
            let mut operator = operator.clone();
            let sides = format!("{}.~meta/", fleet.key);
            let is_ours = |language: &Language| *language == Language::Rust;
            let expected = fleet.languages.iter().filter(|one| is_ours(one)).count();
            let entries = operator.entries(&sides).await?;
            if entries.len() != expected {
                marks.problems.push(format!("expected {expected} side records, got {entries:?}"));
            }
            for side in &entries {
                let id = side.key.trim_start_matches(&sides);
                let public = operator.entries(&format!("{}/{id}", fleet.key)).await?;
                if public.iter().all(|entry| entry.lease != side.lease) {
                    marks.problems.push(format!(
                        "a side record has another lease than its instance: {side:?}"
                    ));
                }
                if !side.value.contains(ZONE) {
                    marks.problems.push(format!("a side record has no metadata: {side:?}"));
                }
            }
            if let Some(side) = entries.first() {
                operator.delete(&side.key, false).await?;
                let restored = operator.await_count(&side.key, 1, RESTORED_WITHIN).await;
                if let Err(error) = restored {
                    marks.problems.push(format!("a side record was not written again: {error:#}"));
                }
            }
            Ok(())
        })
        .await
}

/// Waits until the keys of all servers are registered again.
async fn await_restoration(
    operator: &mut Operator,
    key: &str,
    servers: &[String],
    marks: &mut Marks,
) {
    for address in servers {
        // The absence of a key that is not registered again is the whole wait.
        operator.await_entry(key, address, RESTORED_WITHIN).await.ok();
        marks.absences.push(now() - marks.began);
    }
}
