//! A connection without ongoing faults, held to the whole contract of the memory store.

#[path = "faulty/subject.rs"]
mod subject;

use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use subject::Faulty;

fn main() -> ExitCode {
    conformance(Traits::memory(), || async { Ok(Arc::new(Faulty::fair()) as Arc<dyn Subject>) })
}
