//! From a URL to what is right and what is wrong with its store.

use crate::connect::{built_in, connect_by};
use crate::diagnosis::{Finding, self_test};
use crate::{Result, Target};

/// Looks for what is wrong with the registry that `url` names: whether it answers, what these
/// credentials may do, how its servers are set up, and what lies there that no registry put there.
///
/// What cannot be connected to is a finding like any other. For a moment there is an instance of
/// the service `~doctor`. All that is under the prefix is read.
pub async fn diagnose(url: &str) -> Vec<Finding> {
    let findings = examine(url).await;
    findings.unwrap_or_else(|error| vec![Finding::failed("connect", &error)])
}

async fn examine(url: &str) -> Result<Vec<Finding>> {
    let target: Target = url.parse()?;
    let connected = connect_by(&built_in(), &target).await?;
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
