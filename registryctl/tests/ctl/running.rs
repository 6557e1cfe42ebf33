//! `run`.

use crate::support::{
    SERVICE, TOOL, free_address, listed, load, next, on_each_server, registry, run, start,
    start_reading, watch, within,
};
use registry_testbed::servers::Etcd;
use rustix::process::Signal;
use service_registry::InstanceStatus;
use service_registry::store::Change;
use std::fs::File;
use std::io::IsTerminal;
use std::net::TcpListener;

on_each_server! {
    a_command_is_registered_while_it_listens_and_runs: running;
    a_signal_goes_to_the_command_after_it_was_withdrawn: stopping;
    a_command_that_dies_is_withdrawn_at_once: dying;
}

/// Returns the arguments that run a shell script.
fn arguments<'a>(address: &'a str, options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", SERVICE, address][..], options, &["--", "sh", "-c", script]].concat()
}

async fn running(url: &str) {
    let address = free_address();
    let script = "echo started; read line; exit 7";
    let mut command = start(url, &arguments(&address, &[], script));
    assert_eq!(command.line().await, "started");
    assert!(listed(url).await.is_empty(), "it does not listen yet");
    let _listener = TcpListener::bind(&address).unwrap();
    let note = command.note("active ").await;
    assert!(note.ends_with(&address), "{note}");
    assert_eq!(listed(url).await.len(), 1);
    command.write_line().await;
    let ended = command.ended().await;
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.err[0].starts_with("withdrawn "), "{ended:?}");
    assert!(listed(url).await.is_empty());
}

async fn stopping(url: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut changes = watch(&*registry(url).await).await;
    // When the command gets the signal, the instance must not be listed any more.
    let script = format!(
        "trap '{TOOL} --registry {url} get {SERVICE}; exit 3' TERM; while read -r line; do :; done"
    );
    let mut command = start(url, &arguments(&address, &["--drain", "100ms"], &script));
    command.note("active ").await;
    command.signal(Signal::TERM);
    let ended = command.ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.out.is_empty(), "it was still listed: {ended:?}");
    let notes: Vec<_> = ended.err.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(notes[..3], ["draining", "withdrawn", "no"], "{ended:?}");
    assert!(
        matches!(next(&mut changes).await, Change::Put(up) if up.instance().status() == InstanceStatus::Up)
    );
    let draining = next(&mut changes).await;
    assert!(
        matches!(draining, Change::Put(one) if one.instance().status() == InstanceStatus::Draining)
    );
    assert!(matches!(next(&mut changes).await, Change::Delete(_)));
}

async fn dying(url: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // The drain time is longer than the deadline of the test.
    let options = ["--drain", "10m"];
    let mut command = start(url, &arguments(&address, &options, "read line; kill -KILL $$"));
    command.note("active ").await;
    command.write_line().await;
    let ended = command.ended().await;
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    assert!(listed(url).await.is_empty());
}

#[tokio::test]
async fn a_command_that_never_listens_is_ended_and_was_never_registered() {
    let server = Etcd::start().await.expect("a server");
    let registry = registry(server.url()).await;
    let before = load(&*registry).await;
    let address = free_address();
    let options = ["--ready-timeout", "300ms", "--kill-after", "10m"];
    let arguments = arguments(&address, &options, "echo started; exec sleep 600");
    let ended = run(server.url(), &arguments).await;
    assert_eq!((ended.code, &ended.out[..]), (1, &["started".to_owned()][..]), "{ended:?}");
    assert!(ended.err[0].contains("the command does not listen"), "{ended:?}");
    assert_eq!(load(&*registry).await.cursor(), before.cursor(), "etcd was not written to");
}

#[tokio::test]
async fn a_command_that_ends_before_it_listens_was_never_registered() {
    let server = Etcd::start().await.expect("a server");
    let registry = registry(server.url()).await;
    let before = load(&*registry).await;
    let ended = run(server.url(), &arguments(&free_address(), &[], "exit 5")).await;
    assert_eq!((ended.code, ended.err.len()), (5, 0), "{ended:?}");
    assert_eq!(load(&*registry).await.cursor(), before.cursor(), "etcd was not written to");
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_and_a_second_signal_cuts_the_draining_short() {
    let server = Etcd::start().await.expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = ["--drain", "10m", "--kill-after", "100ms"];
    let script = "trap '' TERM; echo deaf; while read -r line; do :; done";
    let mut command = start(server.url(), &arguments(&address, &options, script));
    assert_eq!(command.line().await, "deaf");
    command.note("active ").await;
    command.signal(Signal::TERM);
    command.note("draining ").await;
    command.signal(Signal::TERM);
    let ended = command.ended().await;
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    assert!(listed(server.url()).await.is_empty());
}

#[tokio::test]
async fn other_signals_go_to_the_command_and_change_nothing() {
    let server = Etcd::start().await.expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = start(server.url(), &arguments(&address, &["--drain", "0s"], PRINT_SIGNALS));
    assert_eq!(command.line().await, "ready");
    command.note("active ").await;
    for (signal, told) in [(Signal::HUP, "hup"), (Signal::USR1, "usr1")] {
        command.signal(signal);
        assert_eq!(command.line().await, told);
    }
    assert_eq!(listed(server.url()).await.len(), 1);
    command.signal(Signal::TERM);
    assert_eq!(command.ended().await.code, 128 + 15);
}

/// Prints the signals that it gets. Each ends a `read`, as does the end of the test.
const PRINT_SIGNALS: &str =
    "trap 'echo hup' HUP; trap 'echo usr1' USR1; echo ready; read a; read b; read c";

#[tokio::test]
async fn a_signal_and_the_kill_after_it_go_to_all_that_the_command_started() {
    let server = Etcd::start().await.expect("a server");
    for (trap, code) in [("", 128 + 15), ("trap '' TERM; ", 128 + 9)] {
        // The background process holds standard output open until it ends.
        let script = format!("{trap}sleep 600 & echo started; wait");
        let address = free_address();
        let arguments = arguments(&address, &["--kill-after", "100ms"], &script);
        let mut command = start(server.url(), &arguments);
        assert_eq!(command.line().await, "started");
        command.signal(Signal::TERM);
        assert_eq!(command.ended().await.code, code);
    }
}

#[tokio::test]
async fn other_signals_go_to_the_command_while_it_is_drained_and_do_not_cut_that_short() {
    let server = Etcd::start().await.expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = start(server.url(), &arguments(&address, &["--drain", "10m"], PRINT_SIGNALS));
    assert_eq!(command.line().await, "ready");
    command.note("active ").await;
    command.signal(Signal::TERM);
    command.note("draining ").await;
    for (signal, told) in [(Signal::HUP, "hup"), (Signal::USR1, "usr1")] {
        command.signal(signal);
        assert_eq!(command.line().await, told);
    }
    assert_eq!(listed(server.url()).await.len(), 1, "it still drains");
    command.signal(Signal::TERM);
    assert_eq!(command.ended().await.code, 128 + 15);
    assert!(listed(server.url()).await.is_empty());
}

#[tokio::test]
async fn a_signal_during_the_connect_starts_no_command() {
    for scheme in ["etcd", "redis"] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let address = free_address();
        // Starting this command would fail with an error.
        let arguments = ["run", SERVICE, &address, "--timeout", "10m", "--", "/no/such/command"];
        let command = start(&url, &arguments);
        let _connection = within(silent.accept()).await.unwrap();
        command.signal(Signal::TERM);
        let ended = command.ended().await;
        assert_eq!((ended.code, ended.err.len()), (128 + 15, 0), "{ended:?}");
    }
}

#[tokio::test]
async fn a_listener_before_the_start_of_the_command_is_a_warning() {
    let server = Etcd::start().await.expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ended = run(server.url(), &arguments(&address, &[], "exit 5")).await;
    assert_eq!(ended.code, 5);
    assert!(ended.err[0].contains(&format!("already listens at {address}")), "{ended:?}");
}

#[tokio::test]
async fn a_command_has_no_terminal_to_read_from() {
    let server = Etcd::start().await.expect("a server");
    // No input arrives there.
    let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    assert!(terminal.is_terminal());
    let address = free_address();
    let arguments = arguments(&address, &[], "read line || exit 6");
    let command = start_reading(server.url(), &arguments, terminal.into());
    assert_eq!(command.ended().await.code, 6);
}

#[tokio::test]
async fn a_signal_before_it_listens_goes_to_the_command_at_once() {
    let server = Etcd::start().await.expect("a server");
    let script = "trap 'exit 4' INT; echo started; while read -r line; do :; done";
    let address = free_address();
    let mut command = start(server.url(), &arguments(&address, &["--drain", "10m"], script));
    assert_eq!(command.line().await, "started");
    command.signal(Signal::INT);
    assert_eq!(command.ended().await.code, 4);
}

#[tokio::test]
async fn a_command_runs_although_the_registry_is_unavailable() {
    let mut server = Etcd::start().await.expect("a server");
    let url = server.url().to_owned();
    server.process().unwrap().kill().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = start(&url, &arguments(&address, &[], "echo started; read line"));
    assert_eq!(command.line().await, "started");
    command.note("not registered yet: ").await;
    within(server.process().unwrap().restart()).await.unwrap();
    command.note("active ").await;
    assert_eq!(listed(&url).await.len(), 1);
}

#[tokio::test]
async fn an_error_of_the_registry_is_reported_before_the_command_starts() {
    let server = Etcd::start().await.expect("a server");
    let url = format!("{}?layout=mine", server.url());
    let ended = run(&url, &arguments("127.0.0.1:1", &[], "echo started")).await;
    assert_eq!((ended.code, ended.out.len()), (1, 0), "{ended:?}");
}
