//! The fault program, which is a package of its own.

use anyhow::Result;

use crate::command::{cargo, execute};
use crate::setup;

/// Sets up, and runs the program with these options.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::run()?;
    execute(cargo().args(["run", "--quiet", "--package", "faults", "--"]).args(options))
}

/// Runs its short form.
pub(crate) fn quick() -> Result<()> {
    run(&["--quick".to_owned()])
}
