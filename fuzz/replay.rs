//! Replays corpora in a plain test. It is included in each module with `LAWS`.

use super::LAWS;
use std::fs;
use std::path::Path;

/// The name of a fuzz target, and the law that it checks for an input.
pub(super) type Law = (&'static str, fn(&[u8]));

#[test]
fn laws_hold_for_the_corpora() {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let corpora =
        folders.find_map(|folder| folder.join("fuzz/corpus").canonicalize().ok()).unwrap();
    for (target, law) in LAWS {
        let folder = corpora.join(target);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            // Shown if the test fails.
            println!("{}", file.display());
            law(&fs::read(&file).unwrap());
        }
    }
}
