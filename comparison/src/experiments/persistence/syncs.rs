//! Whether what is acknowledged is on disk: what a server asks of the kernel, as strace shows it.
//!
//! A kill does not tell: what a server gave to the kernel outlives it, and not a failure of power.

use super::servers::{Mode, Server};
use crate::stores::Where;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};

/// How many registrations are looked at.
const REGISTRATIONS: usize = 200;

/// How long strace may take to begin and to end.
const TRACED_WITHIN: Duration = Duration::from_secs(10);

/// How long one registration may take under it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What was acknowledged, one after the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Synced {
    /// Registrations that were acknowledged.
    pub(super) acknowledged: usize,
    /// Of these, those that the server did not have on disk by then.
    pub(super) unsynced: usize,
}

/// From when to when something went on, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: f64,
    end: f64,
}

/// An strace that looks at a server.
struct Trace(Child);

/// Registers one instance after the other, and looks what the server syncs meanwhile.
pub(super) async fn look(mode: Mode, at: &Where) -> Result<Synced> {
    let mut server = Server::start(mode, at).await?;
    let keeper = server.keeper(mode).await?;
    keeper.register(REGISTRATIONS, crate::arms::TTL).await?; // the first one makes more than itself
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("syncs");
    let trace = Trace::of(server.process()?.pid().context("the server runs")?, &log).await?;
    let mut calls = Vec::new();
    for id in 0..REGISTRATIONS {
        let start = now()?;
        timeout(ANSWER_WITHIN, keeper.register(id, crate::arms::TTL)).await??;
        calls.push(Span { start, end: now()? });
    }
    trace.end().await?;
    let syncs = syncs(&fs::read_to_string(log)?)?;
    let is_synced = |call: &&Span| {
        let within = |sync: &&Span| call.start <= sync.start && sync.end <= call.end;
        syncs.iter().filter(within).count() >= mode.writes()
    };
    let synced = calls.iter().filter(is_synced).count();
    Ok(Synced { acknowledged: calls.len(), unsynced: calls.len() - synced })
}

impl Trace {
    /// Returns when it looks at all threads there are. It follows those that come.
    async fn of(server: u32, log: &Path) -> Result<Self> {
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
                        "strace may not look at a server of ours ({status}): be root, or set kernel.yama.ptrace_scope to 0"
                    );
                }
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        timeout(TRACED_WITHIN, tracing).await.context("strace did not begin")??;
        Ok(trace)
    }

    /// Ends it. Then all that it saw is in its log.
    async fn end(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let ending = async {
            while self.0.try_wait()?.is_none() {
                sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        };
        timeout(TRACED_WITHIN, ending).await.context("strace did not end")?
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended already, unless something failed; a server goes on without it.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Whether all threads of a process are looked at.
fn is_traced(process: u32) -> Result<bool> {
    let mut all = true;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        all &= !status.contains("TracerPid:\t0\n");
    }
    Ok(all)
}

/// When the log of a server was synced, by the lines of strace: a thread, a time, a call.
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
        // What else is synced is no promise: etcd's own database follows its log.
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
    fn a_sync_of_the_log_is_told_from_others_and_put_together_from_its_two_lines() {
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
        assert!(syncs("strace: out of memory").is_err(), "not passed over");
    }
}
