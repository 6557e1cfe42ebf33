//! The conformance tests over a connection without ongoing faults.

#[path = "faulty/subject.rs"]
mod subject;

use registry_core::silence_timeout;
use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use subject::Faulty;

fn main() -> ExitCode {
    let traits = Traits::memory().with_silence(silence_timeout(None));
    conformance(traits, || async { Ok(Arc::new(Faulty::without_faults()) as Arc<dyn Subject>) })
}
