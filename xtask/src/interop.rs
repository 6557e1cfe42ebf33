//! The comparison with fleets in Go: builds the programs in Go, and runs the driver.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{cargo, execute};
use crate::folders::{target, workspace};
use crate::releases::ETCD;
use crate::{go, setup};

/// The programs in Go, each with its module file. `--quick` needs only the first one.
const PROGRAMS: [(&str, &str); 3] =
    [("interop-1.10", "go.mod"), ("interop-1.9", "1.9.mod"), ("interop-1.6", "1.6.mod")];

/// Sets up, builds the programs, and runs the driver with these options.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::run()?;
    let is_quick = options.iter().any(|option| option == "--quick");
    let programs = if is_quick { &PROGRAMS[..1] } else { &PROGRAMS };
    let bin = bin()?;
    for (program, modules) in programs {
        go::build(&workspace().join("interop/go"), modules, &bin.join(program))?;
    }
    let mut arguments = vec![format!("--go={}", bin.display())];
    for release in ETCD.iter().filter(|release| !is_quick || release.is_usual()) {
        let folder: PathBuf = release.provide()?;
        let version = release.name.trim_start_matches("etcd-");
        arguments.push(format!("--release={version}={}", folder.display()));
    }
    execute(
        cargo()
            .args(["run", "--quiet", "--package", "interop", "--"])
            .args(arguments)
            .args(options),
    )
}

/// Builds the program with the newest go-zero.
pub(crate) fn build() -> Result<PathBuf> {
    let (program, modules) = PROGRAMS[0];
    let program = bin()?.join(program);
    go::build(&workspace().join("interop/go"), modules, &program)?;
    Ok(program)
}

fn bin() -> Result<PathBuf> {
    let here = env::current_dir().context("there is no current folder")?;
    Ok(here.join(target()).join("interop/bin"))
}

/// Runs the driver with `--quick`.
pub(crate) fn quick() -> Result<()> {
    run(&["--quick".to_owned()])
}
