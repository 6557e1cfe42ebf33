//! Commands to Redis in its inline protocol: one line for each command.

use super::super::ServerError;
use super::super::wire::Wire;
use futures_util::future::BoxFuture;
use registry_testkit::lag;
use std::time::Duration;
use tokio::time::sleep;

/// The timeout until servers agree.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// The timeout of a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// An invalid command, after which the server closes the connection. A sentinel does not support `QUIT`.
pub(super) const END: &str = "*x\r\n";

/// Sends `command`, and returns the raw reply.
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

/// Checks that a server is a replica in sync with its primary. The error is its replication info.
pub(super) async fn is_synced_replica(address: &str) -> Result<(), String> {
    let seen = send(address, "INFO replication").await?;
    let follows = ["role:slave", "master_link_status:up"];
    if follows.iter().all(|line| seen.contains(line)) { Ok(()) } else { Err(seen) }
}

/// Sends `command`. Its failure means that the server is not ready.
pub(super) async fn must_send(address: &str, command: &str) -> Result<String, ServerError> {
    let outcome = send(address, command).await;
    outcome.map_err(|reason| ServerError::NotReady { server: "redis", reason })
}

/// Polls `check` until it succeeds. The error names `action`, and has the last error of `check`.
pub(super) async fn wait_for<'a, T>(
    action: &'static str,
    mut check: impl FnMut() -> BoxFuture<'a, Result<T, String>>,
) -> Result<T, ServerError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = lag::deadline(SETTLED_WITHIN);
    loop {
        match check().await {
            Ok(found) => return Ok(found),
            Err(seen) if deadline.has_passed() => {
                return Err(ServerError::NoEffect { action, within: SETTLED_WITHIN, seen });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
