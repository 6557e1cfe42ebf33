//! The packages of the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{cargo, output};
use crate::folders::workspace;

/// A package in the output of `cargo metadata`, without the fields that are not needed.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Package {
    /// Returns the root file of its library.
    pub(crate) fn library(&self) -> Option<&Path> {
        let is_library = |target: &&Target| target.kind.iter().any(|kind| kind == "lib");
        self.targets.iter().find(is_library).map(|target| target.src_path.as_path())
    }
}

/// Returns all packages of the workspace.
pub(crate) fn all() -> Result<Vec<Package>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(workspace());
    let metadata: Metadata = serde_json::from_str(&output(&mut metadata)?)
        .context("cannot parse the output of cargo metadata")?;
    Ok(metadata.packages)
}
