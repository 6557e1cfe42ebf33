//! `ls`: lists the services.

use crate::Outcome;
use crate::output::note;
use crate::session::Session;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use service_registry::store::{CallOptions, Registry};
use service_registry::{InstanceStatus, Result, ServiceName};
use std::process::ExitCode;

/// List the services with the number of instances that are up and draining.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print only the names. This takes one request; the counts take a load of each service.
    #[arg(long)]
    names: bool,
}

/// Number of services to load concurrently.
const CONCURRENCY: usize = 16;

#[derive(Serialize)]
struct Named<'a> {
    service: &'a ServiceName,
}

#[derive(Serialize)]
struct Counted {
    service: ServiceName,
    up: usize,
    draining: usize,
    /// Number of records that cannot be decoded.
    undecodable: usize,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let registry = session.connect().await?;
    let names = session.in_time(registry.services(&CallOptions::DEFAULT)).await?;
    let output = session.output();
    if names.is_empty() {
        note("no service has an instance");
    }
    if arguments.names {
        for service in &names {
            output.say(&Named { service }, service)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let counts = stream::iter(names).map(|service| count(session, &*registry, service));
    let counts: Vec<_> = counts.buffered(CONCURRENCY).try_collect().await?;
    if output.is_json() || counts.is_empty() {
        for counted in counts {
            output.object(&counted)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = counts.into_iter().map(|Counted { service, up, draining, undecodable }| {
        [service.to_string(), up.to_string(), draining.to_string(), undecodable.to_string()]
    });
    output.table(["SERVICE", "UP", "DRAINING", "UNDECODABLE"], rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn count(
    session: &Session,
    registry: &dyn Registry,
    service: ServiceName,
) -> Result<Counted> {
    let snapshot = session.in_time(registry.load(&service, &CallOptions::DEFAULT)).await?;
    let of = |status| snapshot.instances().filter(|one| one.status() == status).count();
    let (up, draining) = (of(InstanceStatus::Up), of(InstanceStatus::Draining));
    Ok(Counted { service, up, draining, undecodable: snapshot.undecodable() })
}
