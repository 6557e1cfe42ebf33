//! What can be wrong with a store in memory: nothing that the rehearsal does not see.

use crate::MemRegistry;
use registry_core::diagnosis::{Finding, rehearse};

impl MemRegistry {
    /// Rehearses a registration. There is no server to look at.
    pub async fn diagnose(&self) -> Vec<Finding> {
        rehearse(self).await
    }
}
