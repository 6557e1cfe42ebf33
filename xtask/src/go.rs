//! Builds programs in Go. Modules come from Go's module cache or its configured proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{execute, find};

/// The oldest version of Go that can build the modules.
const OLDEST: &str = "1.26";

/// Builds the program in a folder with the module file `modules`.
pub(crate) fn build(folder: &Path, modules: &str, program: &Path) -> Result<()> {
    if find("go").is_none() {
        bail!(
            "`go` is not on PATH: install Go {OLDEST} or newer, on Debian the package golang-{OLDEST} if the release \
             has it, or an archive of the Go project, and put its folder `bin` on PATH"
        );
    }
    if let Some(parent) = program.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let mut go = Command::new("go");
    go.current_dir(folder).env("CGO_ENABLED", "0").args(["build", "-trimpath"]);
    // Without symbols, the program is a third smaller: go-zero includes a client of Kubernetes.
    go.arg(format!("-modfile={modules}")).arg("-ldflags=-s -w").arg("-o");
    execute(go.arg(program).arg("."))
}
