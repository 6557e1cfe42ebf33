//! `get`: prints the instances of a service.

use crate::Outcome;
use crate::output::{Shown, note};
use crate::session::Session;
use serde::Serialize;
use service_registry::ServiceName;
use service_registry::store::{CallOptions, Cursor, Revision};
use std::process::ExitCode;

/// Print the instances of a service.
///
/// With --json it prints one object, including the cursor at which `watch --after` continues.
///
/// The exit code is 1 if the service has no instance.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Name of the service.
    service: ServiceName,
}

#[derive(Serialize)]
struct Loaded<'a> {
    service: &'a ServiceName,
    revision: Revision,
    cursor: &'a Cursor,
    /// Number of records that cannot be decoded; they are not in `instances`.
    undecodable: usize,
    instances: Vec<Shown<'a>>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let service = &arguments.service;
    let registry = session.connect().await?;
    let snapshot = session.in_time(registry.load(service, &CallOptions::DEFAULT)).await?;
    let (cursor, undecodable) = (snapshot.cursor(), snapshot.undecodable());
    let instances: Vec<_> = snapshot.instances().map(Shown::from).collect();
    let (output, revision) = (session.output(), cursor.revision());
    // Like `grep`, which exits with 1 if nothing matches.
    let code = if instances.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if output.is_json() {
        output.object(&Loaded { service, revision, cursor, undecodable, instances })?;
        return Ok(code);
    }
    if instances.is_empty() {
        note(format_args!("no instance is registered, service=`{service}`"));
    } else {
        output.table(Shown::HEADER, instances.iter().map(Shown::row))?;
    }
    if undecodable > 0 {
        note(format_args!("records that cannot be decoded (see `doctor`): {undecodable}"));
    }
    note(format_args!("revision {revision}, cursor {cursor}"));
    Ok(code)
}
