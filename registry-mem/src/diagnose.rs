//! Checks of a memory store: the rehearsal covers all of it.

use crate::MemRegistry;
use registry_core::diagnosis::{Finding, self_test};

impl MemRegistry {
    /// Rehearses a registration. There is no server to check.
    pub async fn diagnose(&self) -> Vec<Finding> {
        self_test(self).await
    }
}
