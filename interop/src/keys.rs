//! Compares the keys of all servers byte for byte with the keys that go-zero writes.

use crate::fleet::{Fleet, Server};
use crate::operator::Entry;
use crate::schedule::Schedule;
use crate::spec::{Language, Peer};
use crate::stage::Stage;
use anyhow::Result;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The ttl that go-zero grants.
const TTL: i64 = 10;

/// Returns errors in the keys of Rust servers, and notes those of Go servers. Waits for pending registrations.
pub(crate) async fn problems(stage: &mut Stage, notes: &mut Vec<String>) -> Result<Vec<String>> {
    const WITHIN: Duration = Duration::from_secs(15);
    const PAUSE: Duration = Duration::from_millis(100);
    // The server that another one displaced has no key.
    let is_shared = stage.spec.schedule == Schedule::SameId;
    let (Some(operator), false) = (&stage.operator, is_shared) else { return Ok(Vec::new()) };
    let mut operator = operator.clone();
    let mut problems = Vec::new();
    for fleet in &stage.fleets {
        let deadline = Instant::now() + WITHIN;
        let (ours, others) = loop {
            let entries = operator.entries(&format!("{}/", fleet.key)).await?;
            let found = compare(fleet, &entries, stage.spec.peer);
            let is_good = found.0.is_empty() && found.1.is_empty();
            if is_good || Instant::now() > deadline {
                break found;
            }
            sleep(PAUSE).await;
        };
        problems.extend(ours);
        notes.extend(others);
    }
    Ok(problems)
}

/// Returns the errors in the keys of Rust servers, and in those of Go servers.
fn compare(fleet: &Fleet, entries: &[Entry], peer: Peer) -> (Vec<String>, Vec<String>) {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for server in &fleet.servers {
        let wrong = match &entries
            .iter()
            .filter(|one| one.is_of(&server.address))
            .collect::<Vec<_>>()[..]
        {
            [entry] if is_right(fleet, server, entry, peer) => continue,
            wrong => format!("{} in {} has {wrong:?}", server.address, fleet.key),
        };
        if server.language == Language::Rust { &mut ours } else { &mut others }.push(wrong);
    }
    let is_strange = |one: &&Entry| !fleet.addresses.iter().any(|address| one.is_of(address));
    ours.extend(
        entries.iter().filter(is_strange).map(|one| format!("a key of no server: {one:?}")),
    );
    (ours, others)
}

fn is_right(fleet: &Fleet, server: &Server, entry: &Entry, peer: Peer) -> bool {
    let Server { address, id, .. } = server;
    let named = id.map_or_else(|| entry.lease.to_string(), |id| id.to_string());
    let is_named = entry.key == format!("{}/{named}", fleet.key);
    let (is_named, value) = match peer {
        // Its readers accept any id.
        Peer::Naming => (true, format!(r#"{{"Op":0,"Addr":"{address}","Metadata":null}}"#)),
        _ => (is_named, address.clone()),
    };
    is_named && entry.value == value && entry.lease > 0 && entry.granted_ttl == TTL
}
