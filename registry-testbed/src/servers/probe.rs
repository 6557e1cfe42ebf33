//! A readiness probe in the server's own protocol.

use std::time::Duration;

use registry_testkit::lag;
use tokio::time::{sleep, timeout};

use super::kind::Kind;
use super::wire::Wire;

/// The timeout until a server is ready. Scheduling lag extends it.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// The timeout of one probe.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two probes.
const PAUSE: Duration = Duration::from_millis(10);

/// Probes until the server is ready. Returns the last failure at the deadline, or the error of `check_alive` at once.
pub(super) async fn until_ready(
    kind: &Kind,
    wire: &Wire,
    address: &str,
    mut check_alive: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let deadline = lag::deadline(READY_WITHIN);
    loop {
        let answer = probe(kind, wire, address).await;
        // After the probe: if the child has ended, another process may have answered on its port.
        check_alive()?;
        match answer {
            Ok(()) => return Ok(()),
            Err(reason) if deadline.has_passed() => return Err(reason),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Makes one probe.
async fn probe(kind: &Kind, wire: &Wire, address: &str) -> Result<(), String> {
    let reply = timeout(PROBE_WITHIN, wire.exchange(address, kind.request))
        .await
        .map_err(|_| format!("{address} did not answer within {PROBE_WITHIN:?}"))?
        .map_err(|error| format!("{address}: {error}"))?;
    if (kind.ready)(&reply) {
        return Ok(());
    }
    Err(format!("{address} answered {reply:?}"))
}
