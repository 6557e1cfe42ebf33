//! The baselines, in a committed file.

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

/// The file, relative to the root of the repository.
pub(crate) const FILE: &str = "comparison/instructions.json";

/// The default tolerance of a count, in per cent.
const TOLERANCE: f64 = 1.0;

/// The counts, and the toolchain that they were made with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    pub(crate) toolchain: Toolchain,
    pub(crate) paths: BTreeMap<String, HotPath>,
}

impl Baseline {
    /// Creates baselines of these counts, with the tolerances of `before`.
    pub(crate) fn new(toolchain: Toolchain, counts: Counts, before: Option<&Self>) -> Self {
        let tolerance = |name: &str| before.and_then(|before| before.paths.get(name)?.tolerance);
        let paths = counts.into_iter().map(|(name, instructions)| {
            let tolerance = tolerance(&name);
            (name, HotPath { instructions, tolerance })
        });
        Self { toolchain, paths: paths.collect() }
    }

    /// Reads the file. `None` if it does not exist.
    pub(crate) fn read() -> Result<Option<Self>> {
        let text = match fs::read_to_string(file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {FILE}"))?,
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("cannot parse {FILE}"))
    }

    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file(), text).with_context(|| format!("cannot write {FILE}"))
    }
}

/// The baseline of a hot path.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HotPath {
    pub(crate) instructions: u32,
    /// In per cent. It is set by hand, and kept when new counts are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance: Option<f64>,
}

impl HotPath {
    pub(crate) fn tolerance(&self) -> f64 {
        self.tolerance.unwrap_or(TOLERANCE)
    }
}

/// The other causes of a count: the compiler, valgrind, and the C library, which chooses its implementation of a copy or
/// a comparison by the processor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    rustc: String,
    valgrind: String,
    libc: String,
    cpu: String,
}

impl Toolchain {
    /// Returns the toolchain of this machine.
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

    /// Returns the differences between `self` and `now`.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            (&self.rustc, &now.rustc),
            (&self.valgrind, &now.valgrind),
            (&self.libc, &now.libc),
            (&self.cpu, &now.cpu),
        ];
        let other = pairs.into_iter().filter(|(before, now)| before != now);
        other.map(|(before, now)| format!("{before} before, {now} now")).collect()
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(FILE)
}
