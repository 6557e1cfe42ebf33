//! The setup of the lanes.

use anyhow::{Result, ensure};

use super::Lane;
use super::report::Steps;
use crate::command::{cargo, execute};
use crate::docker::{self, Engine};
use crate::folders::workspace;
use crate::{images, instructions, releases, setup, tools};

/// Provides what all lanes need, and leaves the engine running.
pub(crate) fn all() -> Result<()> {
    let mut steps = Steps::default();
    let engine = run(&Lane::ALL, &mut steps);
    ensure!(steps.is_good(), "the setup failed");
    if let Some(engine) = engine {
        engine.leave();
    }
    Ok(())
}

/// Provides what these lanes need. Returns the Docker engine if one was started.
pub(super) fn run(lanes: &[Lane], steps: &mut Steps) -> Option<Engine> {
    steps.run("packages", setup::run);
    steps.run("tools", tools::run);
    steps.run("dependencies", || {
        execute(cargo().args(["fetch", "--locked"]).current_dir(workspace()))
    });
    if lanes.contains(&Lane::Matrix) {
        steps.run("other releases of etcd", || releases::run(&releases::ETCD));
        steps.run("other releases of Redis", || releases::run(&releases::REDIS));
    }
    if lanes.contains(&Lane::Counts) {
        steps.run("valgrind and its runner", instructions::provide);
    }
    if !lanes.contains(&Lane::Docker) {
        return None;
    }
    let engine = steps.run("Docker engine", docker::provide)?;
    steps.run("images", images::run);
    engine
}
