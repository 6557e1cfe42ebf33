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

use std::path::Path;

use anyhow::{Result, ensure};

use self::graph::{Circle, circles};
use self::names::uses;
use crate::command::step;
use crate::packages;

/// Packages whose library is only for the programs beside it.
const EXEMPT: [&str; 1] = ["comparison"];

/// Fails, and prints the circles, if the files of a library of the workspace form one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut found = 0;
    for package in packages::all(root)? {
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

fn print(circle: &Circle<'_>) {
    println!("  circle:");
    for edge in circle {
        println!("    {} uses {} of {}", edge.from, edge.names.join(", "), edge.to);
    }
}
