//! `doctor`: what is wrong with a registry, and what to do about it.

use crate::Outcome;
use crate::session::Session;
use service_registry::diagnosis::diagnose;
use service_registry::diagnosis::{Finding, Level};
use service_registry::store::{CallOptions, Snapshot};
use service_registry::{InstanceStatus, Result, ServiceName};
use std::collections::BTreeMap;
use std::iter;
use std::process::ExitCode;

/// Look for what is wrong with the registry, and say what to do about it.
///
/// It looks whether the servers answer and what these credentials may do, at releases, memory, disk
/// and history, and at all records under the prefix: those that nobody can decode, that never
/// expire, or that are in another layout. For a moment it registers an instance of the service
/// `~doctor`. What it may not ask is a warning. No check takes longer than 10s.
///
/// It exits with 1 if there is an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A service to look at as well.
    service: Option<ServiceName>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut findings = diagnose(session.url()).await;
    if let Some(service) = &arguments.service {
        let looked = look(session, service).await;
        findings.extend(looked.unwrap_or_else(|error| vec![Finding::failed("service", &error)]));
    }
    let output = session.output();
    if output.is_json() {
        for finding in &findings {
            output.object(finding)?;
        }
    } else {
        output.table(["LEVEL", "CHECK", "FOUND"], findings.iter().flat_map(rows))?;
    }
    let is_well = findings.iter().all(|finding| finding.level < Level::Error);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found, and in a row of its own what to do about it.
fn rows(
    Finding { check, level, message, advice, .. }: &Finding,
) -> impl Iterator<Item = [String; 3]> {
    let found = [level.to_string(), (*check).to_owned(), message.clone()];
    let advice =
        advice.as_ref().map(|advice| [String::new(), String::new(), format!("-> {advice}")]);
    iter::once(found).chain(advice)
}

async fn look(session: &Session, service: &ServiceName) -> Result<Vec<Finding>> {
    let registry = session.connect().await?;
    let snapshot = session.in_time(registry.load(service, &CallOptions::DEFAULT)).await?;
    let mut findings = vec![served(service, &snapshot)];
    findings.extend(shared_addresses(&snapshot));
    if snapshot.undecodable() > 0 {
        let message = format!("records that cannot be decoded: {}", snapshot.undecodable());
        let advice = "see the check `records`, which names them";
        findings.push(Finding::warning("service", message, advice));
    }
    Ok(findings)
}

fn served(service: &ServiceName, snapshot: &Snapshot) -> Finding {
    let up = snapshot.instances().filter(|instance| instance.status() == InstanceStatus::Up);
    let available = snapshot.instances().filter(|instance| instance.is_available()).count();
    let (all, up) = (snapshot.instances().len(), up.count());
    let message = format!("`{service}` has instances: {all}, that are up: {up}");
    if available > 0 {
        return Finding::ok("service", message);
    }
    let message = format!("{message}, with a weight above 0: {available}");
    Finding::warning("service", message, "start one: nobody can be called")
}

/// Two instances at one address: one of them is not what it says, or a leftover that still is
/// renewed.
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
    let message = format!("addresses of several instances: {}", shared.join(", "));
    Some(Finding::warning("service", message, "stop whoever registers twice"))
}
