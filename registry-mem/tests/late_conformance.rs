//! A connection with latency, held to the whole contract: to be late is not to be wrong.

#[path = "faulty/subject.rs"]
mod subject;

use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use subject::Faulty;

fn main() -> ExitCode {
    let mut traits = Traits::memory();
    traits.grace = Duration::from_millis(50); // a look that is late sees a death late
    conformance(traits, || async { Ok(Arc::new(Faulty::late()) as Arc<dyn Subject>) })
}
