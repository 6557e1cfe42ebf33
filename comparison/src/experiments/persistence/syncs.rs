//! Checks with strace whether an acknowledged write is on disk. A kill does not show that: the kernel keeps the write.

use super::servers::Mode;
use crate::arms::TTL;
use crate::harness::StoreOptions;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

pub(super) const REGISTRATIONS: usize = 200;
/// The timeout to start and stop strace, and of a traced registration.
const STRACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The start and the end of a call, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: f64,
    end: f64,
}

/// A running strace of a server, and its messages.
struct Trace(Child, Lines<BufReader<ChildStderr>>);

/// Registers instances, and counts those that were not synced to disk when they were acknowledged.
pub(super) async fn count_unsynced(mode: Mode, at: &StoreOptions) -> Result<usize> {
    let mut server = mode.start(at).await?;
    let client = mode.client(&server).await?;
    client.register("first", TTL).await?; // the first one also creates other keys
    let folder = tempfile::tempdir()?;
    let server = server.process()?.pid().context("the server has no process id")?;
    let strace = Trace::start(server, folder.path()).await?;
    let mut calls = Vec::new();
    for id in 0..REGISTRATIONS {
        let start = now()?;
        timeout(STRACE_TIMEOUT, client.register(&id.to_string(), TTL)).await??;
        calls.push(Span { start, end: now()? });
    }
    strace.stop().await?;
    let mut syncs = Vec::new();
    for thread in fs::read_dir(folder.path())? {
        syncs.extend(fs::read_to_string(thread?.path())?.lines().filter_map(sync));
    }
    let is_unsynced = |call: &&Span| {
        let within = |sync: &&Span| call.start <= sync.start && sync.end <= call.end;
        syncs.iter().filter(within).count() < mode.writes()
    };
    Ok(calls.iter().filter(is_unsynced).count())
}

impl Trace {
    /// Starts strace, and waits until it traces all threads. It writes a file for each thread.
    async fn start(server: u32, folder: &Path) -> Result<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-ff", "-y", "-ttt", "-T", "-e", "trace=fsync,fdatasync"]);
        strace.arg("-o").arg(folder.join("syncs")).args(["-p", &server.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = strace.spawn().context("cannot start strace: is it installed?")?;
        let mut lines =
            BufReader::new(child.stderr.take().context("strace has no stderr")?).lines();
        let line = timeout(STRACE_TIMEOUT, lines.next_line()).await;
        let line = line.context("strace did not start")??.unwrap_or_default();
        ensure!(
            line.contains("attached"),
            "strace may not trace the server (`{line}`): be root, or set kernel.yama.ptrace_scope to 0"
        );
        Ok(Self(child, lines))
    }

    /// Stops strace, which completes its log.
    async fn stop(self) -> Result<()> {
        let Self(mut child, _lines) = self;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.context("strace ended")?, Signal::TERM)?;
        timeout(STRACE_TIMEOUT, child.wait()).await.context("strace did not stop")??;
        Ok(())
    }
}

/// Parses a line of strace, and returns the span of a sync of the server's log:
///
/// `1700000000.1 fdatasync(5</data/member/wal/0.wal>) = 0 <0.0003>`
fn sync(line: &str) -> Option<Span> {
    let (start, call) = line.split_once(' ')?;
    // Other files do not matter: etcd recovers its database from the log.
    let is_log = call.contains("/wal/") || call.contains(".aof");
    let (_, took) = call.split_once("= 0 <").filter(|_| is_log)?;
    let (start, took): (f64, f64) = (start.parse().ok()?, took.strip_suffix('>')?.parse().ok()?);
    Some(Span { start, end: start + took })
}

#[expect(clippy::disallowed_methods, reason = "strace has no other clock")]
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_syncs_of_the_log_count() {
        let span = |start, end| Some(Span { start, end });
        let etcd = "100.5 fdatasync(5</d/member/wal/0.wal>) = 0 <0.25>";
        assert_eq!(sync(etcd), span(100.5, 100.75));
        let redis = "101.5 fdatasync(5</d/appendonlydir/a.1.incr.aof>) = 0 <1.0>";
        assert_eq!(sync(redis), span(101.5, 102.5));
        for other in [
            "101.0 fdatasync(6</d/member/snap/db>) = 0 <0.25>",
            "103.0 fdatasync(5</d/member/wal/0.wal>) = -1 EIO (Input/output error) <0.1>",
            "104.0 fdatasync(5</d/member/wal/0.wal> <detached ...>",
            "105.0 +++ exited with 0 +++",
        ] {
            assert_eq!(sync(other), None, "{other}");
        }
    }
}
