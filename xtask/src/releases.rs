//! Releases of servers side by side, each in a folder of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apt;
use crate::command::{find, step};

/// A release of a server, and the Debian that has it.
#[derive(Debug)]
pub(crate) struct Release {
    /// Of the server and the release: the name of its folder.
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// What the program says of itself if it is of this release.
    says: &'static str,
    package: &'static str,
    debian: &'static str,
}

/// The releases of etcd that the tests run against.
pub(crate) static ETCD: [Release; 2] = [
    Release {
        name: "etcd-3.4",
        program: "etcd",
        says: "etcd Version: 3.4.",
        package: "etcd-server",
        debian: "bookworm",
    },
    Release {
        name: "etcd-3.5",
        program: "etcd",
        says: "etcd Version: 3.5.",
        package: "etcd-server",
        debian: "trixie",
    },
];

/// Provides all of them, and says where they are.
pub(crate) fn run(releases: &[Release]) -> Result<()> {
    for release in releases {
        let folder = release.provide()?;
        step(&format!("{} is in {}", release.name, folder.display()));
    }
    Ok(())
}

impl Release {
    /// The folder with the program: on `PATH` if that is of this release, or else one of our own,
    /// to which it is downloaded once.
    pub(crate) fn provide(&self) -> Result<PathBuf> {
        let own = target().join("servers").join(self.name);
        let bin = own.join("usr/bin");
        let usual = find(self.program).and_then(|file| Some(file.parent()?.to_owned()));
        if let Some(folder) = usual.into_iter().chain([bin.clone()]).find(|bin| self.is_in(bin)) {
            return Ok(folder);
        }
        apt::unpack(self.package, self.debian, &own).with_context(|| self.hint())?;
        ensure!(self.is_in(&bin), "{}: what came is of another release", self.hint());
        Ok(bin)
    }

    /// Whether it is the one on `PATH`, which all tests run against anyway.
    pub(crate) fn is_usual(&self) -> bool {
        find(self.program).is_some_and(|file| file.parent().is_some_and(|bin| self.is_in(bin)))
    }

    fn is_in(&self, folder: &Path) -> bool {
        let output = Command::new(folder.join(self.program)).arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(self.says))
    }

    /// What to do where it cannot be provided.
    fn hint(&self) -> String {
        let folder = target().join("servers").join(self.name).join("usr/bin");
        format!(
            "{} cannot be had from the packages of Debian {}; put it on PATH or in {}",
            self.name,
            self.debian,
            folder.display()
        )
    }
}

/// Where builds and what they need are kept.
pub(crate) fn target() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(usual, PathBuf::from)
}
