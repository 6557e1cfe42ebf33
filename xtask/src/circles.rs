//! Circles between the modules of a crate.
//!
//! A file depends on another if its code, or a private import, names an item that the other
//! defines. A re-export does not count; a use through it counts for the file that defines the item.
//! Test code does not count. Method calls are not seen, since a parser does not know types.

mod graph;
mod names;
mod source;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

use self::graph::{Circle, circles};
use self::names::uses;
use crate::command::step;
use crate::packages;

/// Packages whose library is only for the programs beside it.
const EXEMPT: [&str; 1] = ["comparison"];

/// Fails and prints the circles if the files of a library form one.
pub(crate) fn run() -> Result<()> {
    let mut found = 0;
    for package in packages::all()? {
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
    ensure!(found == 0, "modules form {found} circles: move a shared item to a file of its own");
    Ok(())
}

fn print(circle: &Circle<'_>) {
    println!("  circle:");
    for edge in circle {
        println!("    {} uses {} of {}", edge.from, edge.names.join(", "), edge.to);
    }
}
