//! Circles between the modules of a crate.
//!
//! A file depends on another if its code, or an import of its own, names an item that the other
//! defines. A re-export is only another name: it is no use, and a use of it counts for the file
//! that defines the item. Tests may look at anything, so they do not count. Calls of methods are
//! not seen, since a parser does not know the type that they are on.

mod graph;
mod names;
mod source;
#[cfg(test)]
mod tests;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use self::graph::{Circle, circles};
use self::names::uses;
use crate::command::{output, step};
use crate::test::cargo;

/// Packages whose library is only for the programs beside it.
const EXEMPT: [&str; 1] = ["comparison"];

/// What `cargo metadata` says. There is more to it.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Package {
    /// The file with the root of its library.
    fn library(&self) -> Option<&Path> {
        let is_library = |target: &&Target| target.kind.iter().any(|kind| kind == "lib");
        self.targets.iter().find(is_library).map(|target| target.src_path.as_path())
    }
}

/// Fails, and prints the circles, if the files of a library of the workspace form one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut found = 0;
    for package in packages(root)? {
        let Some(library) = package.library() else { continue };
        if EXEMPT.contains(&package.name.as_str()) {
            continue;
        }
        let modules = source::read(library)?;
        let uses = uses(&modules);
        let circles = circles(&uses);
        step(&format!("{}: modules: {}, circles: {}", package.name, modules.len(), circles.len()));
        for circle in &circles {
            print(circle);
        }
        found += circles.len();
    }
    ensure!(found == 0, "modules form {found} circles: move an item, or pass it as an argument");
    Ok(())
}

/// The workspace that xtask was built from.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version=1"]).current_dir(root);
    let metadata: Metadata = serde_json::from_str(&output(&mut metadata)?)
        .context("the output of cargo metadata is not as it should be")?;
    Ok(metadata.packages)
}

fn print(circle: &Circle<'_>) {
    println!("  circle:");
    for edge in circle {
        println!("    {} uses {} of {}", edge.from, edge.names.join(", "), edge.to);
    }
}
