//! The results of a program in a folder, one line of JSON per run.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// A folder with results of the type `R`.
#[derive(Debug)]
pub struct Journal<R> {
    folder: PathBuf,
    file: File,
    results: PhantomData<fn(R)>,
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens or creates a folder, and returns its results.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created, read or written.
    pub fn open(folder: &Path) -> Result<(Self, Vec<R>)> {
        let context = || format!("cannot use the folder {}", folder.display());
        fs::create_dir_all(folder.join("logs")).with_context(context)?;
        let path = folder.join("runs.jsonl");
        let old = if path.exists() {
            fs::read_to_string(&path).with_context(context)?
        } else {
            String::new()
        };
        // The last line is incomplete if the program was killed while it wrote.
        let runs = old.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).with_context(context)?;
        if !old.is_empty() && !old.ends_with('\n') {
            writeln!(file).with_context(context)?;
        }
        Ok((Self { folder: folder.to_owned(), file, results: PhantomData }, runs))
    }

    /// Adds a result.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn add(&mut self, result: &R) -> Result<()> {
        let line = serde_json::to_string(result)? + "\n";
        self.file.write_all(line.as_bytes()).context("cannot write a result")
    }

    /// Returns the path of a log file.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_survive_a_kill_of_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let result = ("A1".to_owned(), 3);
        let (mut journal, none) = Journal::open(folder.path()).unwrap();
        assert!(none.is_empty());
        journal.add(&result).unwrap();
        journal.file.write_all(b"[\"A").unwrap();
        let (mut journal, one) = Journal::open(folder.path()).unwrap();
        assert_eq!(one, std::slice::from_ref(&result));
        journal.add(&result).unwrap();
        let (_, both) = Journal::<(String, u32)>::open(folder.path()).unwrap();
        assert_eq!(both, [result.clone(), result]);
    }
}
