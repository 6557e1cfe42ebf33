//! A server that is a child process, with its own port and folder.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::error::ServerError;
use super::kind::{Kind, Place};
use super::wire::Wire;
use super::{folder, probe, spawn};
use crate::trace;

/// How many ports are tried if another process takes the chosen one before the server starts.
pub(super) const PORT_TRIES: usize = 5;

/// A server that was started from a binary, and an operator's actions on it.
///
/// Dropping it kills the server and removes its folder.
#[derive(Debug)]
pub struct Process {
    kind: &'static Kind,
    program: PathBuf,
    arguments: Vec<String>,
    extra: Extra,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

/// Settings of one server in addition to those of its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Appended to the command line. The last argument of a kind wins.
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// As in [`ServerOptions`](super::ServerOptions).
    pub(super) disk: Option<PathBuf>,
    pub(super) wire: Wire,
}

impl Process {
    /// Starts a server, and waits until it is ready.
    pub(super) async fn start(
        kind: &'static Kind,
        program: PathBuf,
        extra: Extra,
    ) -> Result<Self, ServerError> {
        trace::write_if_enabled();
        let mut tries = 1;
        loop {
            let mut process = Self::prepare(kind, &program, &extra)?;
            match process.launch().await {
                Ok(()) => return Ok(process),
                Err(error) if error.is_address_in_use() && tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the process id while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the data folder. A restart keeps it.
    pub fn data_dir(&self) -> PathBuf {
        data_in(self.folder.path())
    }

    /// Pauses the server (`SIGSTOP`) and waits until it has stopped. Its connections stay open, but nothing answers.
    pub fn pause(&self) -> Result<(), ServerError> {
        let pid = self.signal(Signal::STOP)?;
        // `NOWAIT` does not reap the child, so that `kill` can wait for it.
        let until = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), until)
            .map_err(|error| ServerError::io("wait for a server to stop")(error.into()))?;
        Ok(())
    }

    /// Resumes the server after [`pause`](Self::pause) (`SIGCONT`).
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Kills the server (`SIGKILL`) and waits for its end. It keeps its port and data for
    /// [`restart`](Self::restart). Does nothing if the server was killed before.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().and_then(|()| child.wait()).map(drop).map_err(ServerError::io("kill a server"))
    }

    /// Kills the server if it runs, and starts it again with the same port, data and command line.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill()?;
        self.launch().await
    }

    /// Kills the server if it runs, and deletes its data.
    pub fn wipe(&mut self) -> Result<(), ServerError> {
        self.kill()?;
        let data = self.data_dir();
        fs::remove_dir_all(&data)
            .and_then(|()| fs::create_dir(&data))
            .map_err(ServerError::io("empty a server's data folder"))
    }

    /// Copies the data into a folder, which is created. Of a running server, only the data on disk is copied.
    pub fn copy_data(&self, to: &Path) -> Result<(), ServerError> {
        copy(&self.data_dir(), to).map_err(ServerError::io("copy a server's data"))
    }

    /// Kills the server if it runs, and replaces its data with a copy by [`copy_data`](Self::copy_data).
    pub fn replace_data(&mut self, from: &Path) -> Result<(), ServerError> {
        self.wipe()?;
        copy(from, &self.data_dir()).map_err(ServerError::io("put back a server's data"))
    }

    /// Chooses a port and a folder, and builds the command line.
    fn prepare(kind: &'static Kind, program: &Path, extra: &Extra) -> Result<Self, ServerError> {
        let folder = folder::create(extra.disk.as_deref())
            .map_err(ServerError::io("make a folder for a server"))?;
        let data = data_in(folder.path());
        fs::create_dir(&data).map_err(ServerError::io("make a folder for a server's data"))?;
        let port = free_port();
        let scheme = extra.wire.scheme();
        let place = Place {
            program: Some(program),
            scheme,
            host: "127.0.0.1",
            port,
            data: &data,
            durable: extra.disk.is_some(),
        };
        let mut arguments = (kind.arguments)(&place)?;
        arguments.extend_from_slice(&extra.arguments);
        let (program, extra) = (program.to_owned(), extra.clone());
        Ok(Self { kind, program, arguments, extra, port, folder, child: None })
    }

    /// Starts the child, and waits until it is ready.
    async fn launch(&mut self) -> Result<(), ServerError> {
        let log = File::create(self.log()).map_err(ServerError::io("write a server's log"))?;
        let child = spawn::spawn(&self.program, &self.arguments, &self.extra.environment, log)
            .map_err(ServerError::io("start a server"))?;
        let address = self.address();
        let child = self.child.insert(child);
        let outcome =
            probe::until_ready(self.kind, &self.extra.wire, &address, || match child.try_wait() {
                Ok(None) => Ok(()),
                Ok(Some(status)) => Err(format!("it ended, {status}")),
                Err(error) => Err(error.to_string()),
            });
        let Err(reason) = outcome.await else { return Ok(()) };
        self.kill()?;
        let reason = format!("{reason}; the end of its log:\n{}", tail(&self.log()));
        Err(ServerError::NotReady { server: self.kind.name, reason })
    }

    /// Sends a signal to the child. It is not reaped yet, so no other process can have its id.
    fn signal(&self, signal: Signal) -> Result<Pid, ServerError> {
        let child =
            self.child.as_ref().ok_or(ServerError::NotRunning { server: self.kind.name })?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal)
            .map_err(|error| ServerError::io("send a signal to a server")(error.into()))?;
        Ok(pid)
    }

    /// Returns the address as `host:port`.
    pub(crate) fn address(&self) -> String {
        self.socket_address().to_string()
    }

    /// Returns the address.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the path of the log.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Process {
    /// Kills the child. An error cannot be reported here.
    fn drop(&mut self) {
        self.kill().ok();
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Returns the data folder within a server's folder.
fn data_in(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Returns a port on 127.0.0.1 that no process listens on.
///
/// It is below the kernel's range for outgoing connections. So no outgoing connection takes it while a
/// server is down, and a client that keeps calling a dead server cannot connect to itself. Each process
/// starts its search at another port, so that two tests rarely choose the same one.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    const PER_PROCESS: u32 = 16;
    static CHOSEN: AtomicU16 = AtomicU16::new(0);
    loop {
        let chosen = u32::from(CHOSEN.fetch_add(1, Ordering::Relaxed));
        let offset = process::id().wrapping_mul(PER_PROCESS).wrapping_add(chosen) % COUNT;
        let Ok(port) = u16::try_from(FIRST + offset) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns the last lines of a log.
fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let text = match fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("its log cannot be read: {error}"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
