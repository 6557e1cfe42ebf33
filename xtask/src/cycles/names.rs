//! Resolves names to the files that define them.

use std::collections::HashSet;

use super::graph::Uses;
use super::source::Module;

/// The target of a path: a module, or an item with the module that defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found<'a> {
    Module(usize),
    Item(usize, &'a str),
}

/// Returns which files use which items of other files.
pub(super) fn uses(modules: &[Module]) -> Uses {
    let mut uses = Uses::new();
    for (number, module) in modules.iter().enumerate() {
        for path in &module.named {
            let mut lookup = Lookup { modules, followed: HashSet::new() };
            let Some(Found::Item(owner, name)) = lookup.find(number, path) else {
                continue;
            };
            let (from, to) = (&module.file, &modules[owner].file);
            if from != to {
                let files = uses.entry(from.clone()).or_default();
                files.entry(to.clone()).or_default().insert(name.to_owned());
            }
        }
    }
    uses
}

/// The search for one path. It follows no import twice, since imports may form cycles.
struct Lookup<'a> {
    modules: &'a [Module],
    followed: HashSet<(usize, &'a [String])>,
}

impl<'a> Lookup<'a> {
    /// Resolves a path that is written in `module`. `None` if it leads out of the crate.
    fn find(&mut self, module: usize, path: &[String]) -> Option<Found<'a>> {
        let mut module = module;
        let mut rest = path;
        while let Some((first, more)) = rest.split_first() {
            module = match first.as_str() {
                "crate" => 0,
                "self" => module,
                "super" => self.modules[module].parent?,
                name => match self.modules[module].children.get(name) {
                    // If a module and an item share a name, the last segment is the item.
                    Some(child) if !more.is_empty() => *child,
                    _ => return self.name(module, name, more),
                },
            };
            rest = more;
        }
        Some(Found::Module(module))
    }

    /// Resolves a name in a module, and the segments after it.
    fn name(&mut self, number: usize, name: &str, rest: &[String]) -> Option<Found<'a>> {
        let modules = self.modules;
        let module = &modules[number];
        // The segments after an item are a variant, or an item of an impl.
        if let Some(item) = module.items.get(name) {
            return Some(Found::Item(number, item));
        }
        for (_, path) in module.imports.iter().filter(|(alias, _)| alias == name) {
            if !self.followed.insert((number, path)) {
                continue;
            }
            if let Some(found) = self.find(number, &[path, rest].concat()) {
                return Some(found);
            }
        }
        if let Some(child) = module.children.get(name) {
            return Some(Found::Module(*child));
        }
        for glob in &module.globs {
            if !self.followed.insert((number, glob)) {
                continue;
            }
            let Some(Found::Module(from)) = self.find(number, glob) else { continue };
            if let Some(found) = self.name(from, name, rest) {
                return Some(found);
            }
        }
        None
    }
}
