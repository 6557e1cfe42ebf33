//! `man`: prints the manual.

use crate::{Failure, Outcome};
use clap::Command;
use clap_mangen::Man;
use std::io::{Write, stdout};
use std::process::ExitCode;

/// Print the manual page of this tool or of one verb, in troff format.
///
/// To read it: `registryctl man run | man -l -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The verb. The default is the page of the tool, which lists all verbs.
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
