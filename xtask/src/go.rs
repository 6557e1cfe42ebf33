//! Programs in Go: built from modules, with what is in the cache of modules or comes through the proxy that Go is
//! configured for.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{execute, find};

/// What the modules need.
const OLDEST: &str = "1.26";

/// Builds the program in a folder, with the modules that a file there says.
pub(crate) fn build(folder: &Path, modules: &str, program: &Path) -> Result<()> {
    if find("go").is_none() {
        bail!(
            "there is no `go` on PATH: install Go {OLDEST} or newer (Debian: the package golang-{OLDEST} where the \
             release has it; else an archive of the Go project, with its folder `bin` on PATH)"
        );
    }
    if let Some(parent) = program.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut go = Command::new("go");
    go.current_dir(folder).env("CGO_ENABLED", "0").args(["build", "-trimpath"]);
    // go-zero brings a client of Kubernetes, and symbols are a third of it.
    go.arg(format!("-modfile={modules}")).arg("-ldflags=-s -w").arg("-o");
    execute(go.arg(program).arg("."))
}
