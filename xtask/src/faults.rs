//! Runs the fault program, which is a separate package.

use anyhow::Result;

use crate::command::{cargo, execute};
use crate::setup;

/// Sets up, and runs the program with these options.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::run()?;
    execute(cargo().args(["run", "--quiet", "--package", "faults", "--"]).args(options))
}

/// Runs the program with `--quick`.
pub(crate) fn quick() -> Result<()> {
    run(&["--quick".to_owned()])
}
