//! Runs the tests of a store against every release of its server, from binaries and in Docker.

mod kinds;

pub(crate) use self::kinds::{KINDS, Kind};

use self::kinds::Suite;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::command::{cargo, execute, step};
use crate::folders::target;
use crate::table::{Row, Tally, print};
use crate::test::{EVERYTHING, nextest_run};
use crate::{images, setup};

/// Returns the kind called `name`, for the command line.
pub(crate) fn kind(name: &str) -> Result<&'static Kind, String> {
    let names = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| format!("use one of: {}", names()))
}

/// A run of a suite against a server.
struct Cell {
    kind: &'static Kind,
    build: &'static [&'static str],
    /// The name of the release, such as `etcd-3.4`, or the image.
    release: &'static str,
    place: &'static str,
    suite: &'static str,
    tests: &'static str,
    variables: Vec<(&'static str, OsString)>,
}

/// Provides the servers, runs all cells one after the other, and prints a table.
pub(crate) fn run(kind: &'static Kind, quick: bool) -> Result<()> {
    setup::run()?;
    if !quick {
        images::run()?;
    }
    let cells = cells(kind, quick)?;
    let logs = target().join("matrix");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    execute(cargo().args(["nextest", "run", "--no-run"]).args(built(kind, quick)))?;

    let mut rows = Vec::new();
    for (number, cell) in (1..).zip(&cells) {
        let title =
            format!("{number}/{}: {} {} {}", cells.len(), cell.release, cell.place, cell.suite);
        let log = logs.join(cell.log());
        let tally = cell.run(&title, &log)?;
        let row = Row { release: cell.release, place: cell.place, suite: cell.suite, tally };
        step(&format!("{title}: {}", if row.is_good() { "good" } else { "BAD" }));
        if !row.is_good() {
            show_failures(&log)?;
        }
        rows.push(row);
    }
    println!();
    print(&rows);
    println!("\nlogs: {}", logs.display());
    ensure!(rows.iter().all(Row::is_good), "some suites failed or ran no test: see the table");
    Ok(())
}

fn built(kind: &'static Kind, quick: bool) -> &'static [&'static str] {
    if quick { &EVERYTHING } else { kind.build }
}

/// Returns the cells to run.
fn cells(kind: &'static Kind, quick: bool) -> Result<Vec<Cell>> {
    let build = built(kind, quick);
    let suites = || kind.suites.iter().filter(move |suite| !(quick && suite.is_slow));
    let cell = |release, place, suite: &'static Suite, tests, server: Vec<(_, OsString)>| {
        let own = suite.variables.iter().map(|(name, value)| (*name, value.into()));
        let variables = server.into_iter().chain(own).collect();
        Cell { kind, build, release, place, suite: suite.name, tests, variables }
    };
    let mut cells = Vec::new();
    for release in kind.releases.iter().filter(|release| !(quick && release.is_usual())) {
        let folder: OsString = release.provide()?.into();
        cells.extend(suites().filter_map(|suite| {
            let server = vec![(kind.path_variable, folder.clone())];
            Some(cell(release.name, "binary", suite, suite.filter_for_binary?, server))
        }));
    }
    for release in kind.images.iter().filter(|_| !quick) {
        cells.extend(suites().filter_map(|suite| {
            let server =
                vec![(kind.path_variable, OsString::new()), (kind.image_variable, release.into())];
            Some(cell(release, "docker", suite, suite.filter_for_docker?, server))
        }));
    }
    Ok(cells)
}

impl Cell {
    /// Returns the name of the log.
    fn log(&self) -> PathBuf {
        let name = format!("{}-{}-{}", self.release, self.place, self.suite);
        PathBuf::from(name.replace(['/', ':', ',', ' '], "_") + ".log")
    }

    /// Runs the tests, and shows the last test that passed.
    fn run(&self, title: &str, log: &Path) -> Result<Tally> {
        let bar = progress(title);
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = nextest_run();
        command.args(["--color=never", "--no-tests=fail"]).args(self.build);
        command.args(["-E", self.tests]).env_remove(self.kind.url_variable);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let lines = BufReader::new(child.stderr.take().context("cargo has no stderr")?);
        let mut tally = Tally::default();
        for line in lines.lines() {
            let line = line.context("cannot read the output of cargo")?;
            writeln!(file, "{line}").context("cannot write a log")?;
            tally.read(&line);
            if let Some(test) = line.trim_start().strip_prefix("PASS ") {
                bar.set_message(test.to_owned());
            }
        }
        tally.succeeded = child.wait().context("cannot wait for cargo")?.success();
        bar.finish_and_clear();
        Ok(tally)
    }
}

/// Prints the log of a run without the tests that passed, since the log file is hard to reach on a CI machine.
fn show_failures(log: &Path) -> Result<()> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    for line in text.lines().filter(|line| !line.trim_start().starts_with("PASS ")) {
        eprintln!("  {line}");
    }
    Ok(())
}

/// Returns a spinner to show while a cell runs. Without a terminal, prints one line instead.
fn progress(title: &str) -> ProgressBar {
    const TICK: Duration = Duration::from_millis(100);
    if !stderr().is_terminal() {
        step(title);
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(title.to_owned());
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix} {wide_msg}");
    let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_ones() {
        assert_eq!(kind("etcd").unwrap().name, "etcd");
        assert_eq!(kind("zookeeper").unwrap_err(), "use one of: etcd, redis");
    }

    #[test]
    fn variables_are_those_of_the_server_fixtures() {
        let fixtures = [
            include_str!("../../registry-testbed/src/servers/etcd/kind.rs"),
            include_str!("../../registry-testbed/src/servers/redis.rs"),
        ];
        for (kind, fixture) in KINDS.iter().zip(fixtures) {
            for variable in [kind.url_variable, kind.path_variable, kind.image_variable] {
                assert!(fixture.contains(&format!("\"{variable}\"")), "{variable}");
            }
        }
    }
}
