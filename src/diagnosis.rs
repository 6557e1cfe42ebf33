//! The diagnosis of a store, as `registryctl doctor` prints it.

pub use registry_core::diagnosis::*;

use crate::Result;
use crate::connectors::{built_in, connect_by};
use crate::store::{ConnectOptions, Target};

/// Diagnoses the registry that `url` names: whether it answers, what these credentials may do, how its servers are
/// configured, and which foreign keys it contains.
///
/// A failed connection is a finding too. The diagnosis reads everything under the prefix, and registers an instance of
/// the service `~doctor` for a moment.
///
/// ```
/// use service_registry::diagnosis::{Level, diagnose};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let findings = diagnose("mem://").await;
/// assert!(findings.iter().all(|finding| finding.level == Level::Ok));
/// # }
/// ```
pub async fn diagnose(url: &str) -> Vec<Finding> {
    let findings = examine(url).await;
    findings.unwrap_or_else(|error| vec![Finding::failed("connect", &error)])
}

async fn examine(url: &str) -> Result<Vec<Finding>> {
    let target: Target = url.parse()?;
    let connected = connect_by(&built_in(), &target, &ConnectOptions::default()).await?;
    Ok(match connected.diagnose() {
        Some(store) => store.diagnose().await,
        None => self_test(&**connected.registry()).await,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnose_future_is_send() {
        fn assert_send<T: Send>(_: T) {}
        assert_send(diagnose("mem://"));
    }
}
