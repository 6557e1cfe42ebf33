//! Tests on small crates of what counts as a use.

use std::fs;

use super::names::uses;
use super::source;

/// Returns the uses in a crate of these files, as `from > to: names`.
fn uses_in(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let modules = source::read(&folder.path().join("lib.rs")).unwrap();
    let uses = uses(&modules);
    let lines = uses.iter().flat_map(|(from, files)| {
        files.iter().map(move |(to, names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!("{from} > {to}: {}", names.join(" "))
        })
    });
    lines.collect()
}

#[test]
fn a_use_is_an_import_or_a_path() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::Import; fn f() -> super::c::Path { self::g() } fn g() {}"),
        ("b.rs", "pub struct Import;"),
        ("c.rs", "pub struct Path;"),
    ];
    assert_eq!(uses_in(&files), ["a.rs > b.rs: Import", "a.rs > c.rs: Path"]);
}

#[test]
fn a_reexport_leads_to_the_file_that_defines_the_item() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::Item as Renamed; pub use a::*;"),
        ("a.rs", "mod deep; pub use deep::Item;"),
        ("a/deep.rs", "pub enum Item { One }"),
        ("b.rs", "use crate::Renamed; use crate::a; fn f() { a::Item::One; crate::Item::One; }"),
    ];
    assert_eq!(uses_in(&files), ["b.rs > a/deep.rs: Item"]);
}

#[test]
fn a_parent_uses_what_its_code_names() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child; pub use child::Shown; pub use child::Used; fn f(_: Used) {}"),
        ("a/child.rs", "pub struct Shown; pub struct Used(super::Own);"),
    ];
    // `Own` does not exist, which the compiler would report.
    assert_eq!(uses_in(&files), ["a.rs > a/child.rs: Used"]);
}

#[test]
fn uses_through_globs_and_in_macros_count() {
    let files = [
        ("lib.rs", "mod a; mod b; fn own() {}"),
        ("a.rs", "use super::*; fn f() { own(); assert!(self.b::skipped, crate::b::check(1)); }"),
        ("b.rs", "use crate::a::*; use super::*; pub fn check() {} pub fn skipped() {}"),
    ];
    assert_eq!(uses_in(&files), ["a.rs > b.rs: check", "a.rs > lib.rs: own"]);
}

#[test]
fn tests_do_not_count() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "#[cfg(test)] mod tests; #[cfg(all(test, unix))] use crate::b::Item;"),
        ("b.rs", "pub struct Item; impl Item { #[cfg(test)] fn f() { crate::a::g() } }"),
    ];
    assert!(uses_in(&files).is_empty());
}

#[test]
fn other_crates_do_not_count() {
    let files = [
        ("lib.rs", "mod tokio; mod a; use a::a;"),
        ("a.rs", "use ::tokio::spawn; use a::a; use std::mem; fn f() { mem::drop(1); a::b(); }"),
        ("tokio.rs", "pub fn spawn() {}"),
    ];
    assert!(uses_in(&files).is_empty());
}

#[test]
fn an_inline_module_is_part_of_its_file() {
    let files = [
        ("lib.rs", "mod a { pub struct Own; pub mod b; } use a::Own;"),
        ("a/b.rs", "pub fn f(_: super::Own) {}"),
    ];
    assert_eq!(uses_in(&files), ["a/b.rs > lib.rs: Own"]);
}
