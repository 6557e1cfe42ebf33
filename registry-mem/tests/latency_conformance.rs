//! The conformance tests over a connection with latency.

#[path = "faulty/subject.rs"]
mod subject;

use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use subject::Faulty;

fn main() -> ExitCode {
    let mut traits = Traits::memory();
    traits.grace = Duration::from_millis(50); // a delayed call sees an expiry late
    conformance(traits, || async { Ok(Arc::new(Faulty::with_latency()) as Arc<dyn Subject>) })
}
