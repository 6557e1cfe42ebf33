//! Runs the tool as a process, and accesses its registry directly.

use registry_testkit::lag::timeout;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use serde_json::Value;
use service_registry::store::{CallOptions, Change, Claim, Lease, Registry, Snapshot, Watch};
use service_registry::{Instance, connect};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::oneshot;

pub(crate) const TOOL: &str = env!("CARGO_BIN_EXE_registryctl");

/// The value of `REGISTRY_URL`, which the tool must ignore: it cannot connect to it.
pub(crate) const OTHERS_URL: &str = "none://";

/// The service of these tests.
pub(crate) const SERVICE: &str = "user.rpc";

/// Limit of every await of a test, beside the scheduling lag.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let outcome = timeout(DEADLINE, future).await;
    outcome.unwrap_or_else(|_| panic!("no progress within {DEADLINE:?}"))
}

/// Starts the tool on a registry.
pub(crate) fn start(url: &str, arguments: &[&str]) -> Running {
    start_reading(url, arguments, Stdio::piped())
}

/// Starts the tool on a registry, with `input` as its standard input.
pub(crate) fn start_reading(url: &str, arguments: &[&str], input: Stdio) -> Running {
    let child = Command::new(TOOL)
        .args(arguments)
        .env("REGISTRYCTL_URL", url)
        .env("REGISTRY_URL", OTHERS_URL)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.unwrap();
    let out = Some(BufReader::new(child.stdout.take().unwrap()).lines());
    let err = BufReader::new(child.stderr.take().unwrap()).lines();
    Running { child, out, err }
}

/// Runs the tool to its end.
pub(crate) async fn run(url: &str, arguments: &[&str]) -> Ended {
    start(url, arguments).ended().await
}

/// Runs the tool with `--json`, and asserts that it exits with 0.
pub(crate) async fn json(url: &str, arguments: &[&str]) -> Vec<Value> {
    let ended = run(url, &[arguments, &["--json"]].concat()).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.json()
}

/// Returns what `get` prints as JSON, and asserts that the exit code is 1 without an instance.
pub(crate) async fn loaded(url: &str) -> Value {
    let ended = run(url, &["get", SERVICE, "--json"]).await;
    let loaded = ended.json().remove(0);
    let is_empty = loaded["instances"].as_array().unwrap().is_empty();
    assert_eq!(ended.code, i32::from(is_empty), "{ended:?}");
    loaded
}

/// Returns the ids that `get` lists.
pub(crate) async fn listed(url: &str) -> Vec<String> {
    let loaded = loaded(url).await;
    let instances = loaded["instances"].as_array().unwrap();
    instances.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// A running process of the tool.
pub(crate) struct Running {
    child: Child,
    out: Option<Lines<BufReader<ChildStdout>>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// Returns the next line on standard output.
    pub(crate) async fn line(&mut self) -> String {
        let out = self.out.as_mut().expect("standard output is open");
        match within(out.next_line()).await.unwrap() {
            Some(line) => line,
            None => panic!("standard output ended: {:?}", self.rest_of_stderr().await),
        }
    }

    /// Returns the next line on standard output, parsed as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    /// Returns the next event of the given `type`. Only progress may come before it.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.json().await;
            if event["type"] == kind {
                return event;
            }
            assert_eq!(event["type"], "progress", "expected `{kind}`: {event}");
        }
    }

    /// Waits for a line on standard error that begins with `begin`.
    pub(crate) async fn note(&mut self, begin: &str) -> String {
        let mut before = Vec::new();
        while let Some(line) = within(self.err.next_line()).await.unwrap() {
            if line.starts_with(begin) {
                return line;
            }
            before.push(line);
        }
        panic!("no line begins with `{begin}`: {before:?}");
    }

    /// Closes the reading end of its standard output.
    pub(crate) fn close_stdout(&mut self) {
        self.out = None;
    }

    /// Writes an empty line to its standard input, which its command reads.
    pub(crate) async fn write_line(&mut self) {
        within(self.child.stdin.as_mut().unwrap().write_all(b"\n")).await.unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").cast_signed()).unwrap()
    }

    /// Waits until its process is stopped, as a shell does.
    pub(crate) async fn stopped(&self) {
        let (pid, (send, stopped)) = (self.pid(), oneshot::channel());
        // The thread is detached; it ends with this process.
        std::thread::spawn(move || {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            let status = waitid(WaitId::Pid(pid), options);
            let _ = send.send(status.map(|status| status.is_some_and(|status| status.stopped())));
        });
        assert!(within(stopped).await.unwrap().unwrap(), "it is not stopped");
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(mut self) -> Ended {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(lines) = &mut self.out
            && let Some(line) = within(lines.next_line()).await.unwrap()
        {
            out.push(line);
        }
        err.append(&mut self.rest_of_stderr().await);
        let code = within(self.child.wait()).await.unwrap().code();
        Ended { code: code.expect("no signal ended it"), out, err }
    }

    async fn rest_of_stderr(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) = within(self.err.next_line()).await.unwrap() {
            rest.push(line);
        }
        rest
    }
}

impl Drop for Running {
    /// Kills the process groups of its commands: the tool itself is killed and cannot pass the signal on.
    fn drop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_ascii_whitespace() {
            if let Some(group) = child.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL); // fails if it has just ended
            }
        }
    }
}

/// The result of a process of the tool.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// The lines that were not read before the end.
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

impl Ended {
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the message and the advice of the only finding with this level and check.
    pub(crate) fn finding(&self, level: &str, check: &str) -> String {
        let found: Vec<_> = self.json();
        let mut like = found.iter().filter(|one| one["level"] == level && one["check"] == check);
        let (Some(one), None) = (like.next(), like.next()) else {
            panic!("not exactly one finding `{level} {check}`: {found:#?}");
        };
        format!("{} -> {}", one["message"], one["advice"])
    }
}

pub(crate) async fn registry(url: &str) -> Arc<dyn Registry> {
    within(connect(url)).await.unwrap().registry().clone()
}

pub(crate) fn instance(id: &str) -> Instance {
    let address = "10.0.0.1:8080".parse().unwrap();
    Instance::from_parts(SERVICE.parse().unwrap(), id.parse().unwrap(), address)
}

/// Registers with a ttl that is longer than any test.
pub(crate) async fn register(registry: &dyn Registry, instance: &Instance) -> Lease {
    let claim = Claim::new(Duration::from_secs(600)).unwrap();
    within(registry.register(instance, &claim, &CallOptions::DEFAULT)).await.unwrap()
}

pub(crate) async fn load(registry: &dyn Registry) -> Snapshot {
    within(registry.load(&SERVICE.parse().unwrap(), &CallOptions::DEFAULT)).await.unwrap()
}

/// Opens a watch from the current revision.
pub(crate) async fn watch(registry: &dyn Registry) -> Watch {
    let cursor = load(registry).await.cursor().clone();
    within(registry.watch(&SERVICE.parse().unwrap(), &cursor, &CallOptions::DEFAULT)).await.unwrap()
}

/// Returns the next change.
pub(crate) async fn next(watch: &mut Watch) -> Change {
    use futures_util::StreamExt;
    loop {
        let batch = within(watch.next()).await.unwrap().unwrap();
        if let [change] = &batch.changes[..] {
            return change.clone();
        }
        assert!(batch.is_progress(), "{batch:?}");
    }
}

/// Returns an address where nothing listens.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Declares each test for etcd and for Redis.
macro_rules! on_each_server {
    ($($name:ident: $story:ident;)*) => {$(
        mod $name {
            #[tokio::test]
            async fn on_etcd() {
                let server = registry_testbed::servers::Etcd::start().await.expect("a server");
                super::$story(server.url()).await;
            }

            #[tokio::test]
            async fn on_redis() {
                let server = registry_testbed::servers::Redis::start().await.expect("a server");
                super::$story(server.url()).await;
            }
        }
    )*};
}

pub(crate) use on_each_server;
