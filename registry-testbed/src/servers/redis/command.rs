//! What the fixtures say to a Redis, in its inline form: one line a command.

use super::super::ServerError;
use super::super::wire::Wire;
use futures_util::future::BoxFuture;
use registry_testkit::lag;
use std::time::Duration;
use tokio::time::sleep;

/// How long servers may take until they are of one mind.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// How long one may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What ends a connection from this side: no command begins like this. A sentinel knows no `QUIT`.
pub(super) const END: &str = "*x\r\n";

/// Says `command`, and gives the answer as it came.
pub(super) async fn send(address: &str, command: &str) -> Result<String, String> {
    let request = format!("{command}\r\n{END}");
    let answer = lag::timeout(ANSWER_WITHIN, Wire::Plain.exchange(address, &request)).await;
    let answer = answer.map_err(|_| format!("{address} did not answer `{command}`"))?;
    let answer = answer.map_err(|error| format!("{address}: {error}"))?;
    let answer = answer.rsplit_once("-ERR Protocol error").map_or(&*answer, |(answer, _)| answer);
    if answer.starts_with('-') {
        return Err(format!("{address} refused `{command}`: {}", answer.trim_end()));
    }
    Ok(answer.to_owned())
}

/// Whether a server is a replica that is in step with its primary, or else what it says.
pub(super) async fn is_synced_replica(address: &str) -> Result<(), String> {
    let seen = send(address, "INFO replication").await?;
    let follows = ["role:slave", "master_link_status:up"];
    if follows.iter().all(|line| seen.contains(line)) { Ok(()) } else { Err(seen) }
}

/// Says `command` where it must work.
pub(super) async fn must_send(address: &str, command: &str) -> Result<String, ServerError> {
    let outcome = send(address, command).await;
    outcome.map_err(|reason| ServerError::NotReady { server: "redis", reason })
}

/// Looks until what is expected is seen, or else says what `action` failed.
pub(super) async fn wait_for<'a, T>(
    action: &'static str,
    mut look: impl FnMut() -> BoxFuture<'a, Result<T, String>>,
) -> Result<T, ServerError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = lag::deadline(SETTLED_WITHIN);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) if deadline.has_passed() => {
                return Err(ServerError::NoEffect { action, within: SETTLED_WITHIN, seen });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
