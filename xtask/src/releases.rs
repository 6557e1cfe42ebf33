//! Releases of servers, side by side in separate folders.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{find, step};
use crate::folders::{target, workspace};
use crate::{apt, go};

/// A release of a server, and its source.
#[derive(Debug)]
pub(crate) struct Release {
    /// The names of the server and the release. It is also the name of the folder.
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// A part of the output of `--version` that identifies the release.
    says: &'static str,
    source: Source,
}

/// The source of a release.
#[derive(Debug)]
enum Source {
    /// Packages of a Debian release.
    Debian {
        debian: &'static str,
        /// The packages with the program and its shared libraries.
        packages: &'static [&'static [&'static str]],
        /// The name of the program in the packages, if it must run with their libraries.
        linked: Option<&'static str>,
    },
    /// A build from the Go modules of a file in `xtask/etcd`.
    Go { modules: &'static str },
}

/// The releases of etcd that the tests run against.
pub(crate) static ETCD: [Release; 4] = [
    Release {
        name: "etcd-3.4",
        program: "etcd",
        says: "etcd Version: 3.4.",
        source: Source::Debian { debian: "bookworm", packages: &[&["etcd-server"]], linked: None },
    },
    Release {
        name: "etcd-3.5",
        program: "etcd",
        says: "etcd Version: 3.5.",
        source: Source::Debian { debian: "trixie", packages: &[&["etcd-server"]], linked: None },
    },
    Release {
        name: "etcd-3.6",
        program: "etcd",
        says: "etcd Version: 3.6.",
        source: Source::Go { modules: "3.6.mod" },
    },
    Release {
        name: "etcd-3.7",
        program: "etcd",
        says: "etcd Version: 3.7.",
        source: Source::Go { modules: "go.mod" },
    },
];

/// The shared libraries of Redis and Valkey in Debian 13.
const LIBRARIES: [&str; 11] = [
    "libatomic1",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libjemalloc2",
    "liblzf1",
    "libssl3t64",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
    "zlib1g",
];

/// The shared libraries of Redis in Debian 12.
const OLDER_LIBRARIES: [&str; 15] = [
    "libatomic1",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "libjemalloc2",
    "liblua5.1-0",
    "liblz4-1",
    "liblzf1",
    "liblzma5",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
];

/// The releases of Redis and Valkey that the tests run against.
pub(crate) static REDIS: [Release; 3] = [
    Release {
        name: "redis-7.0",
        program: "redis-server",
        says: "Redis server v=7.0.",
        source: Source::Debian {
            debian: "bookworm",
            packages: &[&["redis-server", "redis-tools"], &OLDER_LIBRARIES],
            linked: Some("redis-server"),
        },
    },
    Release {
        name: "redis-8.0",
        program: "redis-server",
        says: "Redis server v=8.0.",
        source: Source::Debian {
            debian: "trixie",
            packages: &[&["redis-server", "redis-tools"], &LIBRARIES],
            linked: Some("redis-server"),
        },
    },
    Release {
        name: "valkey-8.1",
        program: "redis-server",
        says: "Valkey server v=8.1.",
        source: Source::Debian {
            debian: "trixie",
            packages: &[&["valkey-server", "valkey-tools"], &LIBRARIES],
            linked: Some("valkey-server"),
        },
    },
];

/// Provides all releases, and prints their folders.
pub(crate) fn run(releases: &[Release]) -> Result<()> {
    for release in releases {
        let folder = release.provide()?;
        step(&format!("{} is in {}", release.name, folder.display()));
    }
    Ok(())
}

impl Release {
    /// Returns the folder with the program: the one on `PATH` if it has this release, or else the one in `target`, to
    /// which the release is downloaded once.
    pub(crate) fn provide(&self) -> Result<PathBuf> {
        let (own, bin) = (self.own(), self.bin());
        let usual = find(self.program).and_then(|file| Some(file.parent()?.to_owned()));
        if let Some(folder) = usual.into_iter().chain([bin.clone()]).find(|bin| self.is_in(bin)) {
            return Ok(folder);
        }
        match self.source {
            Source::Debian { debian, packages, linked } => {
                apt::unpack(&packages.concat(), debian, &own).with_context(|| self.hint())?;
                if let Some(program) = linked {
                    self.link(program).with_context(|| self.hint())?;
                }
            }
            Source::Go { modules } => {
                let sources = workspace().join("xtask/etcd");
                go::build(&sources, modules, &bin.join(self.program))
                    .with_context(|| self.hint())?;
            }
        }
        ensure!(
            self.is_in(&bin),
            "the program in {} is of another release: {}",
            bin.display(),
            self.hint()
        );
        Ok(bin)
    }

    /// Returns whether the release is the one on `PATH`, which all other tests run against.
    pub(crate) fn is_usual(&self) -> bool {
        find(self.program).is_some_and(|file| file.parent().is_some_and(|bin| self.is_in(bin)))
    }

    fn is_in(&self, folder: &Path) -> bool {
        let output = Command::new(folder.join(self.program)).arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(self.says))
    }

    /// Writes a script that runs `program` with the libraries of its packages instead of this machine's.
    fn link(&self, program: &str) -> Result<()> {
        let own = self.own();
        // Debian 12 has the C library in `lib` and most others in `usr/lib`.
        let folders = ["usr/lib", "lib"].map(|folder| own.join(folder));
        let libraries: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| entries(folder, |name| name.ends_with("-linux-gnu")))
            .collect();
        let mut loaders = libraries
            .iter()
            .flat_map(|folder| entries(folder, |name| name.starts_with("ld-linux")));
        let loader = loaders.next().context("the packages have no dynamic loader")?;
        let libraries: Vec<_> = libraries.iter().map(|one| one.display().to_string()).collect();
        let script = format!(
            "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
            loader.display(),
            libraries.join(":"),
            own.join("usr/bin").join(program).display()
        );
        let file = self.bin().join(self.program);
        fs::create_dir_all(self.bin())
            .and_then(|()| fs::write(&file, script))
            .and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Returns the download folder of the release.
    fn own(&self) -> PathBuf {
        target().join("servers").join(self.name)
    }

    /// Returns the folder of the program in the download folder.
    fn bin(&self) -> PathBuf {
        let is_as_packed = matches!(self.source, Source::Debian { linked: None, .. });
        self.own().join(if is_as_packed { "usr/bin" } else { "bin" })
    }

    /// Returns the message of a failure, with what to do.
    fn hint(&self) -> String {
        let source = match self.source {
            Source::Debian { debian, .. } => format!("the packages of Debian {debian}"),
            Source::Go { .. } => "Go modules".to_owned(),
        };
        let (name, bin) = (self.name, self.bin());
        format!("cannot get {name} from {source}: put it on PATH or in {}", bin.display())
    }
}

/// Returns the entries of a folder whose names match. Empty if the folder does not exist.
fn entries(folder: &Path, matches: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_str().is_some_and(&matches));
    paths.filter(named).collect()
}
