//! The check for dependency cycles between the files of a crate.
//!
//! A file depends on another one if its code, or a private import, names an item that the other file
//! defines. A re-export does not count; a use through it counts for the file that defines the item.
//! Test code does not count. Method calls are not detected, since a parser does not know types.

mod graph;
mod names;
mod source;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

use self::graph::{Cycle, cycles};
use self::names::uses;
use crate::command::step;
use crate::packages;

/// Packages whose library only serves their own programs.
const EXEMPT: [&str; 1] = ["comparison"];

/// Prints the cycles between the files of each library. Fails if there is one.
pub(crate) fn run() -> Result<()> {
    let mut found = 0;
    for package in packages::all()? {
        let Some(library) = package.library() else { continue };
        if EXEMPT.contains(&package.name.as_str()) {
            continue;
        }
        let modules = source::read(library)?;
        let uses = uses(&modules);
        let cycles = cycles(&uses);
        step(&format!("{}: modules: {}, cycles: {}", package.name, modules.len(), cycles.len()));
        for cycle in &cycles {
            print(cycle);
        }
        found += cycles.len();
    }
    ensure!(found == 0, "cycles found: {found}. Move a shared item to its own file");
    Ok(())
}

fn print(cycle: &Cycle<'_>) {
    println!("  cycle:");
    for edge in cycle {
        println!("    {} uses {} of {}", edge.from, edge.names.join(", "), edge.to);
    }
}
