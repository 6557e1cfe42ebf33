//! `get`: who serves a service now.

use crate::Outcome;
use crate::output::{Shown, note};
use crate::session::Session;
use serde::Serialize;
use service_registry::ServiceName;
use service_registry::store::{CallOptions, Cursor, Revision};
use std::process::ExitCode;

/// Print the instances of a service.
///
/// With --json as one object, with the cursor that `watch --after` goes on from.
///
/// It exits with 1 if no instance is listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service.
    service: ServiceName,
}

#[derive(Serialize)]
struct Loaded<'a> {
    service: &'a ServiceName,
    revision: Revision,
    cursor: &'a Cursor,
    /// Records that cannot be decoded, and are not listed.
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
    // As of `grep`: nothing was found, and that is an answer, printed in full.
    let code = if instances.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if output.is_json() {
        output.object(&Loaded { service, revision, cursor, undecodable, instances })?;
        return Ok(code);
    }
    if instances.is_empty() {
        note(format_args!("no instance is listed, service=`{service}`"));
    } else {
        output.table(Shown::HEADER, instances.iter().map(Shown::row))?;
    }
    if undecodable > 0 {
        note(format_args!("records that cannot be decoded, and are not listed: {undecodable}"));
    }
    note(format_args!("revision {revision}, cursor {cursor}"));
    Ok(code)
}
