//! Tests of the server fixtures with servers from `PATH`.

#![allow(clippy::unwrap_used)]

mod wire;

use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, future, iter, thread};

use registry_testbed::servers::{Etcd, Redis, ServerError, ServerOptions};
use registry_testkit::lag;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::wire::{GET_K, PUT_K, V};

/// Starts an etcd, even if the environment has a URL.
async fn own_etcd() -> Etcd {
    Etcd::start_with(ServerOptions { url: None, ..Etcd::options() }).await.unwrap()
}

/// Starts a Redis with more arguments, even if the environment has a URL.
async fn own_redis(arguments: &[&str]) -> Redis {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    let options = ServerOptions { url: None, arguments, ..Redis::options() };
    Redis::start_with(options).await.unwrap()
}

/// Returns the cluster id in a response.
fn cluster_id(answer: &str) -> &str {
    answer.split('"').skip_while(|word| *word != "cluster_id").nth(2).unwrap()
}

/// Returns whether a process runs, according to the kernel. A zombie does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn etcd_answers() {
    let etcd = own_etcd().await;
    assert_eq!(etcd.url(), etcd.endpoint().replace("http://", "etcd://"));
    wire::etcd(&etcd.endpoint(), "/v3/kv/put", PUT_K).await.unwrap();
    let answer = wire::etcd(&etcd.endpoint(), "/v3/kv/range", GET_K).await.unwrap();
    assert!(answer.contains(V), "{answer}");
}

/// The path selects the release.
#[tokio::test]
async fn the_first_binary_on_the_path_is_started() {
    let usual = own_etcd().await.release().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (program, usual_path) = (folder.path().join("etcd"), env::var_os("PATH").unwrap());
    // The script creates a file, which proves that it was started.
    let lines = [
        "#!/bin/sh".to_owned(),
        format!("touch '{}'", folder.path().join("trace").display()),
        format!("PATH='{}' exec etcd \"$@\"", usual_path.display()),
    ];
    fs::write(&program, lines.join("\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let folders = iter::once(folder.path().to_owned()).chain(env::split_paths(&usual_path));
    let path = Some(env::join_paths(folders).unwrap());
    let options = ServerOptions { url: None, path, ..Etcd::options() };
    let etcd = Etcd::start_with(options).await.unwrap();
    assert!(folder.path().join("trace").exists());
    assert_eq!(etcd.release().await.unwrap(), usual);
}

#[tokio::test]
async fn redis_answers() {
    let redis = own_redis(&[]).await;
    assert_eq!(redis.url(), format!("redis://{}", redis.address()));
    wire::redis(redis.address(), "SET k v").await.unwrap();
    let answer = wire::redis(redis.address(), "GET k").await.unwrap();
    assert_eq!(answer, "$1\r\nv\r\n+OK\r\n");
}

#[tokio::test]
async fn a_redis_with_a_password_counts_as_ready() {
    let redis = own_redis(&["--requirepass", "secret"]).await;
    let answer = wire::redis(redis.address(), "GET k").await.unwrap();
    assert!(answer.starts_with("-NOAUTH"), "{answer}");
}

#[tokio::test]
async fn a_killed_server_refuses_connections_and_cannot_be_paused() {
    let mut redis = own_redis(&[]).await;
    let address = redis.address().to_owned();
    let process = redis.process().unwrap();
    let pid = process.pid().unwrap();
    assert!(runs(pid));
    process.kill().unwrap();
    assert!(!runs(pid));
    assert_eq!(process.pid(), None);
    let refused = TcpStream::connect(&address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    process.kill().unwrap();
    let error = process.pause().unwrap_err();
    assert!(matches!(error, ServerError::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn a_restart_of_redis_keeps_data_on_disk_and_a_wipe_deletes_it() {
    let mut redis = own_redis(&["--appendonly", "yes"]).await;
    let address = redis.address().to_owned();
    wire::redis(&address, "SET k v").await.unwrap();
    redis.process().unwrap().restart().await.unwrap();
    assert_eq!(redis.address(), address);
    let answer = wire::redis(&address, "GET k").await.unwrap();
    assert!(answer.starts_with("$1\r\nv"), "{answer}");

    let process = redis.process().unwrap();
    assert_ne!(fs::read_dir(process.data_dir()).unwrap().count(), 0);
    process.wipe().unwrap();
    assert_eq!(fs::read_dir(process.data_dir()).unwrap().count(), 0);
    process.restart().await.unwrap();
    let answer = wire::redis(&address, "GET k").await.unwrap();
    assert!(answer.starts_with("$-1"), "{answer}");
}

#[tokio::test]
async fn a_restart_of_redis_without_a_file_loses_all_data() {
    let mut redis = own_redis(&[]).await;
    wire::redis(redis.address(), "SET k v").await.unwrap();
    redis.process().unwrap().restart().await.unwrap();
    let answer = wire::redis(redis.address(), "GET k").await.unwrap();
    assert!(answer.starts_with("$-1"), "{answer}");
}

#[tokio::test]
async fn a_wiped_etcd_is_empty_and_keeps_its_cluster_id() {
    let mut etcd = own_etcd().await;
    let endpoint = etcd.endpoint();
    let put = wire::etcd(&endpoint, "/v3/kv/put", PUT_K).await.unwrap();
    etcd.process().unwrap().restart().await.unwrap();
    assert_eq!(etcd.endpoint(), endpoint);
    let kept = wire::etcd(&endpoint, "/v3/kv/range", GET_K).await.unwrap();
    assert!(kept.contains(V), "{kept}");

    let process = etcd.process().unwrap();
    process.wipe().unwrap();
    process.restart().await.unwrap();
    let wiped = wire::etcd(&endpoint, "/v3/kv/range", GET_K).await.unwrap();
    assert!(wiped.contains("200 OK") && !wiped.contains(V), "{wiped}");
    assert_eq!(cluster_id(&wiped), cluster_id(&put));

    let other = own_etcd().await;
    let answer = wire::etcd(&other.endpoint(), "/v3/kv/range", GET_K).await.unwrap();
    assert_ne!(cluster_id(&answer), cluster_id(&put));
}

#[tokio::test]
async fn a_paused_server_does_not_answer_until_it_is_resumed() {
    let mut redis = own_redis(&[]).await;
    let address = redis.address().to_owned();
    let process = redis.process().unwrap();
    process.pause().unwrap();
    let mut ping = Box::pin(wire::redis(&address, "PING"));
    timeout(Duration::from_millis(300), &mut ping).await.unwrap_err();
    process.resume().unwrap();
    // The same connection still works.
    let answer = lag::timeout(Duration::from_secs(5), ping).await.unwrap().unwrap();
    assert!(answer.starts_with("+PONG"), "{answer}");
    process.pause().unwrap();
    process.kill().unwrap();
}

#[tokio::test]
async fn a_drop_ends_the_process_and_removes_its_folder() {
    let mut etcd = own_etcd().await;
    let process = etcd.process().unwrap();
    let (pid, data) = (process.pid().unwrap(), process.data_dir());
    assert!(runs(pid) && data.is_dir());
    drop(etcd);
    assert!(!runs(pid) && !data.parent().unwrap().exists());
}

/// Runs itself a second time as the test to kill. With `VICTIM` set, it starts a server, prints its process id and
/// waits to be killed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_test_leaves_no_process() {
    const VICTIM: &str = "REGISTRY_TEST_VICTIM";
    if env::var_os(VICTIM).is_some() {
        let mut redis = own_redis(&[]).await;
        let process = redis.process().unwrap();
        println!("victim {} {}", process.pid().unwrap(), process.data_dir().display());
        return future::pending().await;
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["a_killed_test_leaves_no_process", "--exact", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find_map(|line| Some(line.split_once("victim ")?.1.to_owned())).unwrap();
    let (pid, data) = line.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    assert!(runs(pid));
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The kernel sends its signal at the end of the victim, so the server may live a moment longer.
    let gone = async {
        while runs(pid) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    lag::timeout(Duration::from_secs(5), gone).await.unwrap();
    // The next process that starts a server removes the folder.
    let next = Command::new(env::current_exe().unwrap())
        .args(["redis_answers", "--exact"])
        .stdout(Stdio::null())
        .status();
    assert!(next.unwrap().success());
    assert!(!Path::new(data).exists());
}

#[tokio::test]
async fn a_server_outlives_the_thread_that_started_it() {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(own_redis(&[]))
    };
    let redis = thread::spawn(start).join().unwrap();
    let answer = wire::redis(redis.address(), "PING").await.unwrap();
    assert!(answer.starts_with("+PONG"), "{answer}");
}

#[tokio::test]
async fn a_server_given_by_its_url_is_used_unless_there_are_arguments() {
    let redis = own_redis(&[]).await;
    let url = format!("redis://somebody:secret@{}/3", redis.address());
    let options = ServerOptions { url: Some(url.clone()), ..Redis::options() };
    let mut same = Redis::start_with(options.clone()).await.unwrap();
    assert_eq!((same.url(), same.address()), (url.as_str(), redis.address()));
    let error = same.process().unwrap_err();
    assert!(matches!(error, ServerError::NotSupported { .. }), "{error}");
    assert!(!format!("{same:?} {options:?}").contains("secret"));
    drop(same);
    wire::redis(redis.address(), "PING").await.unwrap();

    let arguments = vec!["--maxmemory".to_owned(), "100mb".to_owned()];
    let other = Redis::start_with(ServerOptions { arguments, ..options }).await.unwrap();
    assert_ne!(other.address(), redis.address());
}

#[tokio::test]
async fn the_error_of_an_invalid_url_does_not_show_its_password() {
    for url in ["etcd://me:secret@localhost:2379", "rediss://:secret@localhost", "redis://"] {
        let options = ServerOptions { url: Some(url.to_owned()), ..Redis::options() };
        let error = Redis::start_with(options).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "REGISTRY_TEST_REDIS_URL must be a URL like redis://host:port"
        );
    }
}

#[cfg(not(feature = "docker"))]
#[tokio::test]
async fn the_error_of_a_missing_server_says_in_one_line_how_to_get_one() {
    let options = ServerOptions { url: None, path: Some("".into()), ..Etcd::options() };
    let error = Etcd::start_with(options).await.unwrap_err().to_string();
    assert!(error.starts_with("no etcd server for the tests: run `cargo xtask test`"), "{error}");
    assert!(error.contains("REGISTRY_TEST_ETCD_URL") && !error.contains('\n'), "{error}");
    let options = ServerOptions { url: None, path: None, ..Redis::options() };
    let error = Redis::start_with(options).await.unwrap_err();
    assert!(matches!(error, ServerError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn the_error_of_a_server_that_ends_has_its_log() {
    let arguments = vec!["--no-such-flag".to_owned()];
    let options = ServerOptions { url: None, arguments, ..Etcd::options() };
    let error = Etcd::start_with(options).await.unwrap_err().to_string();
    assert!(error.contains("it ended, exit status"), "{error}");
    assert!(error.contains("no-such-flag"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_after_some_attempts() {
    let taken = own_redis(&[]).await;
    let port = taken.address().rsplit_once(':').unwrap().1.to_owned();
    let arguments = vec!["--port".to_owned(), port];
    let options = ServerOptions { url: None, arguments, ..Redis::options() };
    let error = Redis::start_with(options).await.unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn an_etcd_without_progress_notifications_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("etcd");
    fs::write(&program, "#!/bin/sh\necho etcd Version: 3.3.25\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = Some(folder.path().as_os_str().to_owned());
    let error = Etcd::start_with(ServerOptions { url: None, path, ..Etcd::options() }).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("3.3.25") && error.contains("3.4.11"), "{error}");
}

#[tokio::test]
async fn a_server_with_a_disk_keeps_its_data_there() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Some(folder.path().to_owned());
    let options = ServerOptions { disk, ..Redis::options() };
    let mut redis = Redis::start_with(options).await.unwrap();
    let data = redis.process().unwrap().data_dir();
    assert!(data.starts_with(folder.path()), "{}", data.display());
    assert!(data.join("appendonlydir").is_dir());
}
