//! Whether a server is in working order, asked in its own language.

use std::time::Duration;

use registry_testkit::lag;
use tokio::time::{sleep, timeout};

use super::kind::Kind;
use super::wire::Wire;

/// How long a server may take until it answers, the lag aside.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// How long one probe may take until the next is made.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two probes.
const PAUSE: Duration = Duration::from_millis(10);

/// Probes until the server answers and `still_there`, and says what it saw last when that is not
/// before the deadline.
pub(super) async fn until_ready(
    kind: &Kind,
    wire: &Wire,
    address: &str,
    mut still_there: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let deadline = lag::deadline(READY_WITHIN);
    loop {
        let answer = probe(kind, wire, address).await;
        // Asked after the probe: the answer may be that of a stranger who took the port.
        still_there()?;
        match answer {
            Ok(()) => return Ok(()),
            Err(reason) if deadline.has_passed() => return Err(reason),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Asks once.
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
