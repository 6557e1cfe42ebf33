//! The baselines: a file that is committed.

use std::collections::BTreeMap;
use std::env::{self, consts::ARCH};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::count::Counts;
use crate::command::output;

/// Where they are, from the root of the repository.
pub(crate) const FILE: &str = "comparison/instructions.json";

/// By how many per cent a count may differ, where the file says nothing else of it.
const TOLERANCE: f64 = 1.0;

/// What was counted, and with which toolchain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    pub(crate) toolchain: Toolchain,
    pub(crate) paths: BTreeMap<String, HotPath>,
}

impl Baseline {
    /// These counts; the tolerances are those of `before`.
    pub(crate) fn new(toolchain: Toolchain, counts: Counts, before: Option<&Self>) -> Self {
        let tolerance = |name: &str| before.and_then(|before| before.paths.get(name)?.tolerance);
        let paths = counts.into_iter().map(|(name, instructions)| {
            let tolerance = tolerance(&name);
            (name, HotPath { instructions, tolerance })
        });
        Self { toolchain, paths: paths.collect() }
    }

    /// What is in the file; `None` without one.
    pub(crate) fn read() -> Result<Option<Self>> {
        let text = match fs::read_to_string(file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {FILE}"))?,
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("cannot understand {FILE}"))
    }

    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file(), text).with_context(|| format!("cannot write {FILE}"))
    }
}

/// One line of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HotPath {
    pub(crate) instructions: u32,
    /// In per cent; set by hand, and kept when other counts are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance: Option<f64>,
}

impl HotPath {
    pub(crate) fn tolerance(&self) -> f64 {
        self.tolerance.unwrap_or(TOLERANCE)
    }
}

/// What decides a count beside our code: who compiled it, who counted, and which form of a copy or a
/// comparison the C library chose for this processor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    rustc: String,
    valgrind: String,
    libc: String,
    cpu: String,
}

impl Toolchain {
    /// Those of this machine.
    pub(crate) fn here() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let avx2 = cpus.split_whitespace().any(|flag| flag == "avx2");
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Ok(Self {
            rustc: output(Command::new(rustc).arg("--version"))?,
            valgrind: output(Command::new("valgrind").arg("--version"))?,
            libc: output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?,
            cpu: format!("{ARCH}{}", if avx2 { " with avx2" } else { "" }),
        })
    }

    /// What is other in `now`.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            (&self.rustc, &now.rustc),
            (&self.valgrind, &now.valgrind),
            (&self.libc, &now.libc),
            (&self.cpu, &now.cpu),
        ];
        let other = pairs.into_iter().filter(|(before, now)| before != now);
        other.map(|(before, now)| format!("{before} then, {now} now")).collect()
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(FILE)
}
