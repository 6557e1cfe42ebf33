//! Whether an acknowledged write is on disk: the sync calls of a server, traced by strace.
//!
//! A kill does not show that: writes to the kernel survive the process, but not a power failure.

use super::servers::{Mode, Server};
use crate::arms::TTL;
use crate::harness::StoreOptions;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};

/// How many registrations are traced.
const REGISTRATIONS: usize = 200;

/// How long strace may take to start and to stop.
const STRACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one registration may take under strace.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of tracing registrations, one after the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Synced {
    /// Registrations that were acknowledged.
    pub(super) acknowledged: usize,
    /// Of these, the registrations that were not synced to disk by then.
    pub(super) unsynced: usize,
}

/// The start and the end of a call, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: f64,
    end: f64,
}

/// A running strace of a server.
struct Trace(Child);

/// Registers one instance after the other, and traces the syncs of the server meanwhile.
pub(super) async fn trace(mode: Mode, at: &StoreOptions) -> Result<Synced> {
    let mut server = Server::start(mode, at).await?;
    let client = server.client(mode).await?;
    client.register("first", TTL).await?; // the first one also creates other keys
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("syncs");
    let strace = Trace::start(server.process()?.pid().context("the server runs")?, &log).await?;
    let mut calls = Vec::new();
    for id in 0..REGISTRATIONS {
        let start = now()?;
        timeout(RESPONSE_TIMEOUT, client.register(&id.to_string(), TTL)).await??;
        calls.push(Span { start, end: now()? });
    }
    strace.stop().await?;
    let syncs = syncs(&fs::read_to_string(log)?)?;
    let is_synced = |call: &&Span| {
        let within = |sync: &&Span| call.start <= sync.start && sync.end <= call.end;
        syncs.iter().filter(within).count() >= mode.writes()
    };
    let synced = calls.iter().filter(is_synced).count();
    Ok(Synced { acknowledged: calls.len(), unsynced: calls.len() - synced })
}

impl Trace {
    /// Starts strace, and returns when it traces all threads. New threads are traced, too.
    async fn start(server: u32, log: &Path) -> Result<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-ttt", "-T", "-e", "trace=fsync,fdatasync", "-o"]).arg(log);
        strace.args(["-p", &server.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = strace.spawn().context("strace is missing: install it")?;
        let mut trace = Self(child);
        let tracing = async {
            while !is_traced(server)? {
                if let Some(status) = trace.0.try_wait()? {
                    bail!(
                        "strace may not trace the server ({status}): be root, or set kernel.yama.ptrace_scope to 0"
                    );
                }
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        timeout(STRACE_TIMEOUT, tracing).await.context("strace did not start")??;
        Ok(trace)
    }

    /// Stops strace. Its log is complete then.
    async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let ending = async {
            while self.0.try_wait()?.is_none() {
                sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        };
        timeout(STRACE_TIMEOUT, ending).await.context("strace did not stop")?
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has stopped already, unless something failed; the server continues without it.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Returns whether all threads of a process are traced.
fn is_traced(process: u32) -> Result<bool> {
    let mut all = true;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        all &= !status.contains("TracerPid:\t0\n");
    }
    Ok(all)
}

/// Parses the syncs of the server's log from the lines of strace: a thread, a time, a call.
///
/// `7 1700000000.1 fdatasync(5</data/member/wal/0.wal>) = 0 <0.0003>`, or in two lines where threads take turns:
/// `7 1700000000.1 fdatasync(5</data/member/wal/0.wal> <unfinished ...>`, and
/// `7 1700000000.4 <... fdatasync resumed>) = 0 <0.3>`. Short numbers of threads are filled up with spaces.
fn syncs(lines: &str) -> Result<Vec<Span>> {
    let (mut begun, mut syncs) = (HashMap::new(), Vec::new());
    for line in lines.lines() {
        let unknown = || format!("strace says `{line}`");
        let (thread, rest) = line.trim_start().split_once(' ').with_context(unknown)?;
        let (at, call) = rest.trim_start().split_once(' ').with_context(unknown)?;
        let at: f64 = at.parse().with_context(unknown)?;
        // Other syncs promise nothing: etcd's database follows its log.
        let is_log = call.contains("/wal/") || call.contains(".aof");
        if call.contains(" resumed>") {
            let start = begun.remove(thread);
            syncs.extend(
                start.filter(|_| call.contains("= 0")).map(|start| Span { start, end: at }),
            );
        } else if is_log && call.ends_with("<unfinished ...>") {
            begun.insert(thread, at);
        } else if is_log && call.contains("= 0") {
            let took =
                call.rsplit_once('<').and_then(|(_, took)| took.strip_suffix('>')?.parse().ok());
            syncs.extend(took.map(|took: f64| Span { start: at, end: at + took }));
        }
    }
    Ok(syncs)
}

#[expect(clippy::disallowed_methods, reason = "strace has no other clock")]
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_syncs_of_the_log_count_also_when_strace_splits_their_line() {
        let lines = "\
              7     100.5 fdatasync(5</d/member/wal/0.wal>) = 0 <0.25>\n\
            8 101.0 fdatasync(6</d/member/snap/db> <unfinished ...>\n\
            7 101.5 fdatasync(5</d/appendonlydir/a.1.incr.aof> <unfinished ...>\n\
            8 102.0 <... fdatasync resumed>) = 0 <1.0>\n\
            7 102.5 <... fdatasync resumed>) = 0 <1.0>\n\
            7 103.0 fdatasync(5</d/member/wal/0.wal>) = -1 EIO <0.1>\n\
            7 104.0 fdatasync(5</d/member/wal/0.wal> <detached ...>\n\
            8 105.0 +++ exited with 0 +++\n";
        let span = |start, end| Span { start, end };
        assert_eq!(syncs(lines).unwrap(), [span(100.5, 100.75), span(101.5, 102.5)]);
        assert!(syncs("strace: out of memory").is_err(), "an unknown line is an error");
    }
}
