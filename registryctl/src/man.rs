//! `man`: the manual.

use crate::{Failure, Outcome};
use clap::Command;
use clap_mangen::Man;
use std::io::{Write, stdout};
use std::process::ExitCode;

/// Print the manual of this tool or of a verb, in the format of `man`.
///
/// To read it: `registryctl man run | man -l -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The verb. Without one it is the page of the tool, which lists them.
    verb: Option<String>,
}

pub(crate) fn run(mut tool: Command, arguments: &Arguments) -> Outcome {
    tool.build();
    let page = match &arguments.verb {
        None => tool,
        Some(verb) => {
            let found = tool.find_subcommand(verb).cloned();
            found.ok_or_else(|| Failure::NoVerb(verb.clone()))?
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(Failure::Output)?;
    stdout().lock().write_all(&text).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
