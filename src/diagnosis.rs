//! What is right and what is wrong with a store.

pub use registry_core::diagnosis::*;

use crate::Result;
use crate::connectors::{built_in, connect_by};
use crate::store::{ConnectOptions, Target};

/// Looks for what is wrong with the registry that `url` names: whether it answers, what these
/// credentials may do, how its servers are set up, and what lies there that no registry put there.
///
/// What cannot be connected to is a finding like any other. For a moment there is an instance of
/// the service `~doctor`. All that is under the prefix is read.
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
    fn diagnosis_may_run_in_a_task_of_its_own() {
        fn assert_send<T: Send>(_: T) {}
        assert_send(diagnose("mem://"));
    }
}
