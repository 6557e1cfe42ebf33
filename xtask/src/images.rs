//! The images that the server fixtures start in Docker.
//!
//! The official images are pulled. If that fails, equivalent ones are built from packages of Debian 13 under
//! the same names, so that the tests find them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::command::{as_root, execute, find, step, succeeds};
use crate::{apt, docker};

/// The Debian release with the servers of [`IMAGES`].
const RELEASE: &str = "trixie";

/// The packages with the servers, as an option of debootstrap.
const PACKAGES: &str = "--include=etcd-server,redis-server,valkey-server";

/// An image.
struct Image {
    name: &'static str,
    /// The program that `redis-server` is a link to in the image, if it is a link.
    redis_server: Option<&'static str>,
}

/// The images that the tests use.
const IMAGES: [Image; 3] = [
    Image { name: "quay.io/coreos/etcd:v3.5.16", redis_server: None },
    Image { name: "redis:8.0", redis_server: None },
    Image { name: "valkey/valkey:8.1", redis_server: Some("/usr/bin/valkey-server") },
];

/// Pulls the missing images, and builds those that cannot be pulled.
pub(crate) fn run() -> Result<()> {
    ensure!(docker::answers(), "no Docker engine answers: start one");
    let missing: Vec<&Image> = IMAGES.iter().filter(|image| !is_here(image)).collect();
    let to_build: Vec<&Image> = missing
        .into_iter()
        .filter(|image| execute(Command::new("docker").args(["pull", "-q", image.name])).is_err())
        .collect();
    if to_build.is_empty() {
        step("all images are available");
        return Ok(());
    }
    step("some images cannot be pulled: building them from Debian packages");
    build(&to_build)
}

/// Returns whether the engine has the image.
fn is_here(image: &Image) -> bool {
    succeeds(Command::new("docker").args(["image", "inspect", image.name]))
}

/// Installs a Debian with all servers in a folder, and creates the images from it.
fn build(images: &[&Image]) -> Result<()> {
    if find("debootstrap").is_none() && !Path::new("/usr/sbin/debootstrap").is_file() {
        apt::install(&["debootstrap"], &[])?;
    }
    // Not in /tmp, which may be mounted without devices and executables.
    let scratch = tempfile::tempdir_in("/var/tmp").context("cannot create a folder in /var/tmp")?;
    let root = scratch.path().join("root");
    let built =
        install(&root).and_then(|()| images.iter().try_for_each(|image| import(image, &root)));
    // The files belong to root. `--one-file-system` skips mounts that a failed installation left behind.
    execute(as_root("rm")?.args(["-rf", "--one-file-system"]).arg(&root))?;
    built
}

/// Installs a Debian with the servers.
fn install(root: &Path) -> Result<()> {
    let mut debootstrap = as_root("debootstrap")?;
    debootstrap.args(["--variant=minbase", PACKAGES, RELEASE]).arg(root);
    execute(debootstrap.arg(apt::debian_mirror()?))
}

/// Creates an image from the installation.
fn import(image: &Image, root: &Path) -> Result<()> {
    let mut tar = as_root("tar")?;
    tar.args(["-c", "--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists", "-C"]);
    tar.arg(root).arg(".");
    let links = tempfile::tempdir().context("cannot create a folder for a link")?;
    if let Some(target) = image.redis_server {
        let link = Path::new("usr/local/bin/redis-server");
        let folder = links.path().join("usr/local/bin");
        fs::create_dir_all(folder)
            .and_then(|()| symlink(target, links.path().join(link)))
            .context("cannot create a link")?;
        tar.arg("-C").arg(links.path()).arg(link);
    }
    step(&format!("tar | docker import - {}", image.name));
    let mut tar = tar.stdout(Stdio::piped()).spawn().context("cannot run tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let docker = Command::new("docker").args(["import", "-", image.name]).stdin(archive).status();
    let packed = tar.wait().context("cannot wait for tar")?;
    let imported = docker.context("cannot run docker")?;
    ensure!(packed.success() && imported.success(), "tar or docker import failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::IMAGES;

    #[test]
    fn images_are_those_of_the_server_fixtures() {
        let fixtures = [
            include_str!("../../registry-testbed/src/servers/etcd/kind.rs"),
            include_str!("../../registry-testbed/src/servers/redis.rs"),
            include_str!("../../registry-testbed/tests/docker.rs"),
        ];
        for (image, fixture) in IMAGES.iter().zip(fixtures) {
            assert!(fixture.contains(&format!("\"{}\"", image.name)), "{}", image.name);
        }
    }
}
