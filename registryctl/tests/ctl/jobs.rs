//! `run` as shells and containers use it: exit codes, Ctrl-Z, orphans, and the environment.

use crate::support::{
    OTHERS_URL, Running, SERVICE, free_address, listed, on_each_server, run, start,
};
use registry_testbed::servers::Etcd;
use rustix::process::Signal;
use std::net::TcpListener;

on_each_server! {
    a_paused_command_is_withdrawn_and_registered_again_when_it_continues: pausing;
}

/// Runs a shell script as the command of `run`.
fn start_script(url: &str, address: &str, script: &str) -> Running {
    start(url, &["run", SERVICE, address, "--drain", "100ms", "--", "sh", "-c", script])
}

/// Prints the signals of a terminal that it gets. Each ends a `read`, as does the end of the test.
const PRINT_SIGNALS: &str =
    "trap 'echo paused' TSTP; trap 'echo continued' CONT; echo ready; read a; read b; read c";

/// Prevents a bug: Ctrl-Z stopped only the tool. The command kept serving, and was listed until its lease expired.
async fn pausing(url: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = start_script(url, &address, PRINT_SIGNALS);
    assert_eq!(command.line().await, "ready");
    command.note("active ").await;
    let ids = listed(url).await;
    command.signal(Signal::TSTP);
    command.note("draining ").await;
    command.note("withdrawn ").await;
    assert_eq!(command.line().await, "paused");
    command.stopped().await;
    assert!(listed(url).await.is_empty());

    command.signal(Signal::CONT);
    assert_eq!(command.line().await, "continued");
    command.note("active ").await;
    assert_eq!(listed(url).await, ids, "the id stays the same");
    command.signal(Signal::TERM);
    assert_eq!(command.ended().await.code, 128 + 15);
    assert!(listed(url).await.is_empty());
}

#[tokio::test]
async fn a_command_that_is_paused_before_it_listens_continues() {
    let server = Etcd::start().await.expect("a server");
    let address = free_address();
    let mut command = start_script(server.url(), &address, PRINT_SIGNALS);
    assert_eq!(command.line().await, "ready");
    command.signal(Signal::TSTP);
    assert_eq!(command.line().await, "paused");
    command.stopped().await;
    let _listener = TcpListener::bind(&address).unwrap();
    command.signal(Signal::CONT);
    assert_eq!(command.line().await, "continued");
    command.note("active ").await;
    assert_eq!(listed(server.url()).await.len(), 1);
}

/// A stopped process gets no other signal before it continues.
#[tokio::test]
async fn a_terminating_signal_reaches_a_paused_command() {
    let server = Etcd::start().await.expect("a server");
    let mut command = start_script(server.url(), &free_address(), "echo ready; read line");
    assert_eq!(command.line().await, "ready");
    command.signal(Signal::TSTP);
    command.stopped().await;
    command.signal(Signal::TERM);
    command.signal(Signal::CONT);
    assert_eq!(command.ended().await.code, 128 + 15);
}

/// Prevents a bug: as the first process of a container, the tool never reaped orphans.
#[tokio::test]
async fn orphans_of_the_command_are_adopted_and_reaped() {
    let server = Etcd::start().await.expect("a server");
    // The inner shell leaves an orphan behind. The outer one waits until the tool has adopted it, kills it, and waits
    // until it is reaped.
    let script = "orphan=$(sh -c 'sleep 600 >/dev/null & echo $!')
        until grep -q \"^PPid:[[:space:]]*$PPID\\$\" /proc/$orphan/status; do sleep 0.01; done
        echo adopted
        kill $orphan
        while [ -e /proc/$orphan ]; do sleep 0.01; done
        echo reaped";
    let mut command = start_script(server.url(), &free_address(), script);
    assert_eq!(command.line().await, "adopted");
    assert_eq!(command.line().await, "reaped");
    assert_eq!(command.ended().await.code, 0);
}

/// Regression: the command inherited the URL of the registry, including its password. The user's own `REGISTRY_URL`, which
/// the tool ignores, is passed on.
#[tokio::test]
async fn the_command_gets_its_own_registry_url_and_not_that_of_the_tool() {
    let server = Etcd::start().await.expect("a server");
    let script = "echo ${REGISTRYCTL_URL-unset} $REGISTRY_URL";
    let mut command = start_script(server.url(), &free_address(), script);
    assert_eq!(command.line().await, format!("unset {OTHERS_URL}"));
}

#[tokio::test]
async fn a_command_that_cannot_be_started_has_the_exit_code_of_shells() {
    let server = Etcd::start().await.expect("a server");
    let plain = tempfile::NamedTempFile::new().unwrap();
    let plain = plain.path().to_str().unwrap();
    for (command, code) in [("/no/such/command", 127), ("no-such-command", 127), (plain, 126)] {
        let ended = run(server.url(), &["run", SERVICE, "127.0.0.1:1", "--", command]).await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err[0].contains(command), "{ended:?}");
    }
}
