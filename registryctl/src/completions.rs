//! `completions`: prints a completion script.

use crate::{Failure, Outcome};
use clap::Command;
use clap_complete::{Shell, generate};
use std::io::{Write, stdout};
use std::process::ExitCode;

/// Print a completion script for a shell.
///
/// For bash: `registryctl completions bash > ~/.local/share/bash-completion/completions/registryctl`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(mut tool: Command, arguments: &Arguments) -> Outcome {
    let (name, mut script) = (tool.get_name().to_owned(), Vec::new());
    generate(arguments.shell, &mut tool, name, &mut script);
    stdout().lock().write_all(&script).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
