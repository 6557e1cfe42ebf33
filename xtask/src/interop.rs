//! Interoperation with Go: builds the Go programs and runs the package `interop`.

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

/// Installs what is missing, builds the programs, and runs the package `interop` with these options.
pub(crate) fn run(options: &[String]) -> Result<()> {
    setup::run()?;
    let is_quick = options.iter().any(|option| option == "--quick");
    let programs = if is_quick { &PROGRAMS[..1] } else { &PROGRAMS };
    let folder = program_folder()?;
    for (program, module_file) in programs {
        go::build(&workspace().join("interop/go"), module_file, &folder.join(program))?;
    }
    let mut arguments = vec![format!("--go={}", folder.display())];
    for release in ETCD.iter().filter(|release| !is_quick || release.is_usual()) {
        let etcd: PathBuf = release.provide()?;
        let version = release.name.trim_start_matches("etcd-");
        arguments.push(format!("--release={version}={}", etcd.display()));
    }
    execute(
        cargo()
            .args(["run", "--quiet", "--package", "interop", "--"])
            .args(arguments)
            .args(options),
    )
}

/// Builds the program that uses the newest go-zero, and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let (program, module_file) = PROGRAMS[0];
    let program = program_folder()?.join(program);
    go::build(&workspace().join("interop/go"), module_file, &program)?;
    Ok(program)
}

fn program_folder() -> Result<PathBuf> {
    let current = env::current_dir().context("there is no current folder")?;
    Ok(current.join(target()).join("interop/bin"))
}

/// Like [`run`] with `--quick`.
pub(crate) fn quick() -> Result<()> {
    run(&["--quick".to_owned()])
}
