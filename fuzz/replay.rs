//! Replays corpora in a plain test: part of the module that has the `LAWS`, each with the name of its fuzz target.

use super::LAWS;
use std::fs;
use std::path::Path;

/// The name of a fuzz target, and what it checks of an input.
pub(super) type Law = (&'static str, fn(&[u8]));

#[test]
fn corpora_keep_the_laws() {
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
            // The output of a failed test names the file.
            println!("{}", file.display());
            law(&fs::read(&file).unwrap());
        }
    }
}
