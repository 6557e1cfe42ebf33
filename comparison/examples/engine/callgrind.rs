//! Instructions, as valgrind counts them: the same on every run of the same program.

use crate::pick::Arm;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use comparison::meter::as_f64;
use std::env;
use std::io::ErrorKind;
use std::process::{Command, Output};

/// The instructions that one iteration of `arm` takes; `None` without valgrind.
///
/// The difference of two runs, of so many and of twice as many: what comes before the loop cancels
/// out.
pub(crate) fn instructions(arm: Arm, iterations: u64) -> Result<Option<f64>> {
    let Some(once) = count(arm, iterations)? else { return Ok(None) };
    let Some(duplicated) = count(arm, 2 * iterations)? else { return Ok(None) };
    Ok(Some((duplicated - once) / as_f64(iterations)))
}

fn count(arm: Arm, iterations: u64) -> Result<Option<f64>> {
    let arm = arm.to_possible_value().context("an arm has a name")?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["pick", "--arm", arm.get_name(), "--iterations", &iterations.to_string()])
        .output();
    match run {
        Ok(output) => parse(&output).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(output: &Output) -> Result<f64> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {stderr}");
    let total = stderr.lines().find_map(|line| line.split_once("Collected : "));
    let (_, total) = total.with_context(|| format!("valgrind counted nothing: {stderr}"))?;
    Ok(total.trim().parse()?)
}
