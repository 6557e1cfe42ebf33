//! Other programs: found, announced and run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, iter};

use anyhow::{Context, Result, bail};

use crate::folders::tools;

/// Says what is being done.
pub(crate) fn step(text: &str) {
    println!("step: {text}");
}

/// Says what is about to be run.
pub(crate) fn announce(command: &Command) {
    step(&line(command));
}

/// Announces a command, runs it to its end and fails unless it succeeds.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed, {status}", line(command));
    }
    Ok(())
}

/// Whether a command can be run and succeeds. What it prints is not of interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a command prints, without the white space around it. It fails unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed, {}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command run by root: as it is, or with sudo.
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

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    with_tools(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// A cargo that finds the tools of CI before others of their name.
pub(crate) fn with_tools(mut cargo: Command) -> Command {
    let usual = env::var_os("PATH").unwrap_or_default();
    let folders = iter::once(tools().join("bin")).chain(env::split_paths(&usual));
    // No folder with a colon in its name: then there are the usual ones.
    cargo.env("PATH", env::join_paths(folders).unwrap_or(usual));
    cargo
}

/// A tool of CI.
pub(crate) fn tool(program: &str) -> Command {
    Command::new(tools().join("bin").join(program))
}

/// The first file of that name on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A command as one would type it: the program without its folder.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
