//! What the build and the tests need beside Rust.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apt;
use crate::command::{find, step};

/// Something needed, and the Debian package it comes in.
struct Need {
    package: &'static str,
    /// The service that the package would start by itself.
    unit: Option<&'static str>,
    is_met: fn() -> bool,
}

/// All of them. The build of etcd-client wants protoc and the well-known protos. The servers are
/// needed even where the tests are given the URLs of others: some kill and wipe their own. What
/// etcd's own client shows is compared byte for byte, and what a server has on disk is told by strace,
/// which is Linux' own.
const NEEDS: [Need; 6] = [
    Need { package: "protobuf-compiler", unit: None, is_met: || protoc().is_some() },
    Need { package: "libprotobuf-dev", unit: None, is_met: has_well_known_protos },
    Need { package: "etcd-server", unit: Some("etcd.service"), is_met: || find("etcd").is_some() },
    Need { package: "etcd-client", unit: None, is_met: || find("etcdctl").is_some() },
    Need {
        package: "redis-server",
        unit: Some("redis-server.service"),
        is_met: || find("redis-server").is_some(),
    },
    Need {
        package: "strace",
        unit: None,
        is_met: || cfg!(not(target_os = "linux")) || find("strace").is_some(),
    },
];

/// Installs what is missing, or says what to install where it cannot.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_met)()).collect();
    if missing.is_empty() {
        step("protoc with its protos, etcd, etcdctl, redis-server and strace are here");
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(elsewhere(&missing));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let units: Vec<&str> = missing.iter().filter_map(|need| need.unit).collect();
    apt::install(&packages, &units)?;
    match missing.iter().find(|need| !(need.is_met)()) {
        Some(need) => bail!("{} is installed, and what it brings is not on PATH", need.package),
        None => Ok(()),
    }
}

/// The protoc that a build takes: the one in `PROTOC`, or else the one on `PATH`.
fn protoc() -> Option<PathBuf> {
    env::var_os("PROTOC").map(PathBuf::from).or_else(|| find("protoc"))
}

/// Whether protoc finds `google/protobuf/*.proto`: beside itself, among the system's headers, or
/// where `PROTOC_INCLUDE` says.
fn has_well_known_protos() -> bool {
    let beside = protoc()
        .and_then(|protoc| protoc.canonicalize().ok())
        .and_then(|protoc| Some(protoc.parent()?.parent()?.join("include")));
    let stated = env::var_os("PROTOC_INCLUDE").map(PathBuf::from);
    let system = Some(PathBuf::from("/usr/include"));
    [beside, stated, system]
        .into_iter()
        .flatten()
        .any(|folder| folder.join("google/protobuf/descriptor.proto").is_file())
}

/// What to do on a machine without apt-get.
fn elsewhere(missing: &[&Need]) -> String {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let hint = [
        ("brew", "brew install protobuf etcd redis"),
        ("dnf", "dnf install protobuf-compiler protobuf-devel etcd redis strace"),
    ]
    .into_iter()
    .find(|(program, _)| find(program).is_some())
    .map_or("with this system's package manager", |(_, command)| command);
    format!("there is no apt-get here; install what Debian calls {}: {hint}", packages.join(", "))
}
