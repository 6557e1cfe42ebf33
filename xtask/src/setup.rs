//! The packages that the build and the tests need in addition to Rust.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apt;
use crate::command::{find, step};

/// A requirement, and the Debian package that meets it.
struct Need {
    package: &'static str,
    /// The service that the package starts on installation.
    unit: Option<&'static str>,
    is_met: fn() -> bool,
}

/// All requirements. The build of etcd-client needs protoc and the well-known protos. The servers are needed even if
/// the tests have URLs of others, since some tests kill and wipe their own. Tests compare bytes with etcdctl, and
/// observe disk writes by strace, which exists only on Linux.
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

/// Installs the missing packages. Without apt-get, fails with what to install.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_met)()).collect();
    if missing.is_empty() {
        step("found protoc with its protos, etcd, etcdctl, redis-server and strace");
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(elsewhere(&missing));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let units: Vec<&str> = missing.iter().filter_map(|need| need.unit).collect();
    apt::install(&packages, &units)?;
    match missing.iter().find(|need| !(need.is_met)()) {
        Some(need) => {
            bail!("{} is installed, but its files were not found: check PATH", need.package)
        }
        None => Ok(()),
    }
}

/// Returns the protoc that a build uses: the one in `PROTOC`, or else the one on `PATH`.
fn protoc() -> Option<PathBuf> {
    env::var_os("PROTOC").map(PathBuf::from).or_else(|| find("protoc"))
}

/// Returns whether protoc finds `google/protobuf/*.proto`: next to itself, in the system's headers, or in
/// `PROTOC_INCLUDE`.
fn has_well_known_protos() -> bool {
    let next_to_protoc = protoc()
        .and_then(|protoc| protoc.canonicalize().ok())
        .and_then(|protoc| Some(protoc.parent()?.parent()?.join("include")));
    let configured = env::var_os("PROTOC_INCLUDE").map(PathBuf::from);
    let system = Some(PathBuf::from("/usr/include"));
    [next_to_protoc, configured, system]
        .into_iter()
        .flatten()
        .any(|folder| folder.join("google/protobuf/descriptor.proto").is_file())
}

/// Returns an error that says what to install on a machine without apt-get.
fn elsewhere(missing: &[&Need]) -> String {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let hint = [
        ("brew", "brew install protobuf etcd redis"),
        ("dnf", "dnf install protobuf-compiler protobuf-devel etcd redis strace"),
    ]
    .into_iter()
    .find(|(program, _)| find(program).is_some())
    .map_or("with this system's package manager", |(_, command)| command);
    format!(
        "there is no apt-get: install the equivalents of the Debian packages {}: {hint}",
        packages.join(", ")
    )
}
