//! The packages of the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{cargo, output};

/// What `cargo metadata` says of a package. There is more to it.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Package {
    /// The file with the root of its library.
    pub(crate) fn library(&self) -> Option<&Path> {
        self.of_kind("lib").next().map(|target| target.src_path.as_path())
    }

    /// The binaries of its integration tests.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &str> {
        self.of_kind("test").map(|target| target.name.as_str())
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.kind.iter().any(|one| one == kind))
    }
}

/// All packages of the workspace in that folder.
pub(crate) fn all(root: &Path) -> Result<Vec<Package>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(root);
    let metadata: Metadata = serde_json::from_str(&output(&mut metadata)?)
        .context("the output of cargo metadata is not as it should be")?;
    Ok(metadata.packages)
}
