//! The conformance of a connection without ongoing faults.

#[path = "faulty/subject.rs"]
mod subject;

use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use subject::Faulty;

fn main() -> ExitCode {
    conformance(Traits::memory(), || async {
        Ok(Arc::new(Faulty::without_faults()) as Arc<dyn Subject>)
    })
}
