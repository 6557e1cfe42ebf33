//! Finding and running other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, iter};

use anyhow::{Context, Result, bail};

use crate::folders::tools;

/// Prints a step.
pub(crate) fn step(text: &str) {
    println!("step: {text}");
}

/// Prints a command that is about to run.
pub(crate) fn announce(command: &Command) {
    step(&line(command));
}

/// Prints and runs a command. Fails unless it succeeds.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed, {status}", line(command));
    }
    Ok(())
}

/// Returns whether a command can be run and succeeds. Discards its output.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command, and returns its trimmed output. Fails unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed, {}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns a command that runs as root, with sudo if necessary.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    let id = Command::new("id").arg("-u").output().context("cannot run id")?;
    if id.stdout == b"0\n" {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!("{program} needs root, and there is no sudo: run this once as root");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Returns a command of the cargo that runs this task.
pub(crate) fn cargo() -> Command {
    with_tools(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// Puts the tools of CI first on the `PATH` of a cargo command.
pub(crate) fn with_tools(mut cargo: Command) -> Command {
    let usual = env::var_os("PATH").unwrap_or_default();
    let folders = iter::once(tools().join("bin")).chain(env::split_paths(&usual));
    // Fails only for a folder with a colon in its name. Then keep the usual `PATH`.
    cargo.env("PATH", env::join_paths(folders).unwrap_or(usual));
    cargo
}

/// Returns a command of a tool of CI.
pub(crate) fn tool(program: &str) -> Command {
    Command::new(tools().join("bin").join(program))
}

/// Returns the first file called `program` on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Returns a command as one would type it, without the folder of the program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
