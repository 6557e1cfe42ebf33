//! `doctor`: diagnoses a registry.

use crate::Outcome;
use crate::session::Session;
use service_registry::diagnosis::diagnose;
use service_registry::diagnosis::{Finding, Level};
use service_registry::store::{CallOptions, Snapshot};
use service_registry::{InstanceStatus, Result, ServiceName};
use std::collections::BTreeMap;
use std::iter;
use std::process::ExitCode;

/// Diagnose the registry: find problems, and say what to do about them.
///
/// It checks whether the servers answer and what the credentials permit, then releases, memory, disk
/// and history. It reads all records under the prefix and reports those that cannot be decoded, that
/// never expire, or that have another layout. It registers an instance of the service `~doctor` for
/// a moment. A check that the credentials do not permit is a warning. No check takes longer than
/// 10s.
///
/// The exit code is 1 if there is an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also check this service.
    service: Option<ServiceName>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut findings = diagnose(session.url()).await;
    if let Some(service) = &arguments.service {
        let checked = check(session, service).await;
        findings.extend(checked.unwrap_or_else(|error| vec![Finding::failed("service", &error)]));
    }
    let output = session.output();
    if output.is_json() {
        for finding in &findings {
            output.object(finding)?;
        }
    } else {
        output.table(["LEVEL", "CHECK", "FOUND"], findings.iter().flat_map(rows))?;
    }
    let is_healthy = findings.iter().all(|finding| finding.level < Level::Error);
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns a row with the finding, and a second row with the advice.
fn rows(
    Finding { check, level, message, advice, .. }: &Finding,
) -> impl Iterator<Item = [String; 3]> {
    let found = [level.to_string(), (*check).to_owned(), message.clone()];
    let advice =
        advice.as_ref().map(|advice| [String::new(), String::new(), format!("-> {advice}")]);
    iter::once(found).chain(advice)
}

/// Checks whether instances of `service` are available.
async fn check(session: &Session, service: &ServiceName) -> Result<Vec<Finding>> {
    let registry = session.connect().await?;
    let snapshot = session.in_time(registry.load(service, &CallOptions::DEFAULT)).await?;
    let mut findings = vec![served(service, &snapshot)];
    findings.extend(shared_addresses(&snapshot));
    if snapshot.undecodable() > 0 {
        let message = format!("records that cannot be decoded: {}", snapshot.undecodable());
        let advice = "see the findings of the check `records`, which name them";
        findings.push(Finding::warning("service", message, advice));
    }
    Ok(findings)
}

fn served(service: &ServiceName, snapshot: &Snapshot) -> Finding {
    let up = snapshot.instances().filter(|instance| instance.status() == InstanceStatus::Up);
    let available = snapshot.instances().filter(|instance| instance.is_available()).count();
    let (all, up) = (snapshot.instances().len(), up.count());
    let message = format!("instances of `{service}`: {all}, up: {up}");
    if available > 0 {
        return Finding::ok("service", message);
    }
    let message = format!("{message}, available (up, and a weight above 0): {available}");
    Finding::warning(
        "service",
        message,
        "start an instance, or end the draining of one: none can be called",
    )
}

/// Reports instances that share an address. One of them has a wrong address, or is a leftover that somebody renews.
fn shared_addresses(snapshot: &Snapshot) -> Option<Finding> {
    let mut by_address = BTreeMap::<&str, Vec<&str>>::new();
    for instance in snapshot.instances() {
        by_address.entry(instance.address().as_str()).or_default().push(instance.id().as_str());
    }
    let shared = by_address.into_iter().filter(|(_, ids)| ids.len() > 1);
    let shared: Vec<_> =
        shared.map(|(address, ids)| format!("{address} ({})", ids.join(", "))).collect();
    if shared.is_empty() {
        return None;
    }
    let message = format!("several instances share an address: {}", shared.join(", "));
    Some(Finding::warning(
        "service",
        message,
        "stop the process that registers the second one, or correct its address",
    ))
}
