//! Child processes that do not outlive this process, even if it is killed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;

/// A program to start, and a channel for the child.
type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a program that writes to `log` and dies with this process.
pub(super) fn spawn(
    program: &Path,
    arguments: &[String],
    environment: &[(&str, String)],
    log: File,
) -> io::Result<Child> {
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(spawner);
    let mut command = guarded(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let (reply, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts servers is gone");
    SPAWNER.send((command, reply)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// Returns a command for `program` that the kernel kills when its parent ends, if `setpriv` is available. A drop
/// kills a server as well, but a killed test drops nothing.
fn guarded(program: &Path) -> Command {
    static GUARD: LazyLock<bool> = LazyLock::new(|| {
        let probe = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    if !*GUARD {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts the thread that spawns all children. To the kernel, the parent is a *thread*: that of a test ends with the
/// test, but this thread ends with the process.
fn spawner() -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::spawn(move || {
        for (mut command, reply) in jobs {
            if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                orphan.kill().ok();
            }
        }
    });
    sender
}
