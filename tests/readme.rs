//! The program in the README is the one in the crate's documentation, which runs as a doctest.
#![allow(clippy::unwrap_used)]

const README: &str = include_str!("../README.md");
const LIB: &str = include_str!("../src/lib.rs");

/// The README itself cannot be a doctest: a rendered README would show the lines that a doctest hides.
#[test]
fn program_in_the_readme_equals_the_doctest() {
    let readme_program: Vec<_> = block(README, "```rust,ignore").collect();
    let docs: String = LIB
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .fold(String::new(), |docs, line| docs + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let visible = block(&docs, "```").filter(|line| !line.starts_with("# "));
    assert_eq!(readme_program, visible.collect::<Vec<_>>());
    assert!(
        readme_program.len() < 12,
        "the README program has {} lines, at most 11",
        readme_program.len()
    );
}

/// Returns the lines of the first block that starts with the line `begin`.
fn block<'a>(page: &'a str, begin: &'a str) -> impl Iterator<Item = &'a str> {
    let after = page.lines().skip_while(move |line| *line != begin).skip(1);
    after.take_while(|line| *line != "```")
}
