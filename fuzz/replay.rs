//! Replays a corpus in a plain test.

use std::fs;
use std::path::Path;

/// Calls `law` with every file of the corpus of `target`.
pub(super) fn corpus(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
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
