//! The Docker engine of CI. Tasks for contributors never start or stop an engine.

use std::fs::{self, File};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::apt;
use crate::command::{announce, as_root, execute, find, step, succeeds};
use crate::folders::target;

/// The timeout of the engine's start and stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The interval between two checks.
const PAUSE: Duration = Duration::from_millis(200);

/// An engine that this process started. Dropping it stops the engine.
#[derive(Debug)]
pub(crate) struct Engine(Option<Child>);

/// Returns whether an engine answers.
pub(crate) fn answers() -> bool {
    succeeds(Command::new("docker").arg("version"))
}

/// Starts an engine if none answers. Installs Debian's if none is installed.
pub(crate) fn provide() -> Result<Option<Engine>> {
    if answers() {
        step("a Docker engine answers");
        return Ok(None);
    }
    install()?;
    let log = target().join("dockerd.log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // A CI machine may itself be a container, without overlayfs and without systemd for cgroups.
    let mut dockerd = as_root("dockerd")?;
    dockerd.args(["--storage-driver=fuse-overlayfs", "--exec-opt=native.cgroupdriver=cgroupfs"]);
    announce(&dockerd);
    let clone = file.try_clone().context("cannot write a log")?;
    let child = dockerd.stdout(clone).stderr(file).spawn().context("cannot run dockerd")?;
    let mut engine = Engine(Some(child));
    if let Err(error) = engine.wait_until_it_answers() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("{error}; the log in {}:\n{text}", log.display());
    }
    Ok(Some(engine))
}

fn install() -> Result<()> {
    const PACKAGES: [(&str, &str); 2] =
        [("dockerd", "docker.io"), ("fuse-overlayfs", "fuse-overlayfs")];
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        find("apt-get").is_some(),
        "no Docker engine answers, and there is no apt-get to install one: start an engine"
    );
    apt::install(&missing, &["docker.service", "docker.socket", "containerd.service"])
}

impl Engine {
    fn wait_until_it_answers(&mut self) -> Result<()> {
        let start = Instant::now();
        while !answers() {
            if let Some(status) = self.ended()? {
                bail!("dockerd ended, {status}");
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the Docker engine does not answer after {PATIENCE:?}"
            );
            sleep(PAUSE);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        let Some(child) = &mut self.0 else { return Ok(None) };
        child.try_wait().context("cannot wait for dockerd")
    }

    /// Leaves the engine running, and prints how to stop it.
    pub(crate) fn leave(mut self) {
        if let Some(child) = self.0.take() {
            step(&format!("the Docker engine keeps running; stop it with: kill {}", child.id()));
        }
    }

    fn stop(&mut self) -> Result<()> {
        let Some(child) = &self.0 else { return Ok(()) };
        execute(as_root("kill")?.arg(child.id().to_string()))?;
        let start = Instant::now();
        while self.ended()?.is_none() {
            ensure!(start.elapsed() < PATIENCE, "dockerd still runs after {PATIENCE:?}");
            sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            step(&format!("the Docker engine could not be stopped: {error:#}"));
        }
    }
}
