//! Tests of snapshot files: starts during an outage, and unusable files.

use crate::logs::Logs;
use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Update, ViewStatus};
use registry_mem::Fault;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::time::Instant;

/// The delay between a change and the write of the file, plus a tolerance.
const WRITTEN: std::time::Duration = std::time::Duration::from_millis(1_100);

fn options(folder: &Path) -> DiscoveryOptions {
    DiscoveryOptions::default().with_snapshots(folder.to_owned())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Returns a folder with a snapshot file of the store of `world`.
async fn folder(world: &World) -> TempDir {
    let folder = TempDir::new().unwrap();
    let view = World::over(world.store.clone()).view(options(folder.path())).await;
    advance(WRITTEN).await;
    assert_eq!(files(folder.path()).len(), 1, "{view:?}");
    folder
}

#[tokio::test(start_paused = true)]
async fn a_view_that_starts_during_an_outage_shows_its_file_and_is_stale() {
    let world = World::new();
    world.put("a").await;
    world.put("b").await;
    let folder = folder(&world).await;
    world.link.inject(Fault::Outage);
    let view = world.discovery(options(folder.path())).view(&service());
    let start = Instant::now();
    ready(&view, secs(3)).await.unwrap();
    assert_eq!(start.elapsed(), secs(3), "it waits for the store up to the timeout");
    assert_eq!(shown(&view), "a b");
    let ViewStatus::Stale { since, why } = view.status() else { panic!() };
    assert_eq!((since, why.kind()), (start, ErrorKind::Unavailable));
    assert_eq!(view.staleness(), secs(3));
    assert!(world.link.hits().calls_refused > 0);
}

#[tokio::test(start_paused = true)]
async fn instances_only_in_the_file_are_removed_at_once_if_the_store_answers() {
    let world = World::new();
    let lease = world.put("a").await;
    world.put("b").await;
    let folder = folder(&world).await;
    world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    world.put("c").await;
    let start = Instant::now();
    let view = world.view(options(folder.path())).await;
    assert_eq!((shown(&view), retained(&view)), ("b c".into(), String::new()));
    assert_eq!((world.spy.loads(), start.elapsed()), (1, secs(0)));
}

#[tokio::test(start_paused = true)]
async fn instances_only_in_the_file_are_retained_after_an_outage_at_the_start() {
    let world = World::new();
    let lease = world.put("a").await;
    world.put("b").await;
    let folder = folder(&world).await;
    world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    world.link.inject(Fault::Outage);
    let view = world.discovery(options(folder.path())).view(&service());
    until_shown(&view, "a b").await;
    let monitor = Monitor::of(&view);
    advance(secs(30)).await;
    world.link.heal();
    until_live(&view).await;
    assert_eq!((shown(&view), retained(&view)), ("a b".into(), "a".into()));
    advance((2 * lease.ttl()).saturating_sub(secs(1))).await;
    assert_eq!(shown(&view), "a b", "its ttl is a day");
    assert_eq!(monitor.shown(), ["a b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unusable_file_is_ignored_and_replaced() {
    let world = World::new();
    world.put("a").await;
    let folder = folder(&world).await;
    let file = files(folder.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut changed = whole.clone();
    let last = changed.len() - 3;
    changed[last] ^= 1;
    for bad in [&b""[..], b"\n", b"{}", b"\xff\xff\n", &whole[..whole.len() / 2], &changed] {
        fs::write(&file, bad).unwrap();
        let world = World::over(world.store.clone());
        let view = world.view(options(folder.path())).await;
        assert_eq!((shown(&view), world.spy.loads()), ("a".into(), 1));
        advance(WRITTEN).await;
        // The headers differ in the time of writing.
        assert_eq!(records(&fs::read(&file).unwrap()), records(&whole));
    }
}

/// Returns the part of a file after its header.
fn records(file: &[u8]) -> String {
    let text = std::str::from_utf8(file).unwrap();
    text.split_once('\n').unwrap().1.to_owned()
}

#[tokio::test(start_paused = true)]
async fn instances_in_the_file_of_another_store_are_not_shown() {
    let other = World::new();
    other.put("x").await;
    let folder = folder(&other).await;
    let world = World::new();
    world.put("a").await;
    let view = world.view(options(folder.path())).await;
    assert_eq!((shown(&view), retained(&view)), ("a".into(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_receives_the_state_of_the_store_and_not_that_of_the_file() {
    let world = World::new();
    world.put("a").await;
    let folder = folder(&world).await;
    world.link.inject(Fault::Outage);
    let view = world.discovery(options(folder.path())).view(&service());
    until_shown(&view, "a").await;
    let mut updates = changes(&view);
    assert!(updates.next().now_or_never().is_none());
    world.put("b").await;
    world.link.heal();
    let Some(Update::Reset(first)) = within(updates.next()).await else { panic!() };
    assert_eq!(ids(first.instances()), "a b");
}

#[tokio::test(start_paused = true)]
async fn ready_fails_without_a_file_and_without_a_store() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    world.link.inject(Fault::Outage);
    let view = world.discovery(options(folder.path())).view(&service());
    let error = ready(&view, secs(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    advance(WRITTEN).await;
    assert!(files(folder.path()).is_empty(), "a file was written without an answer of the store");
}

#[tokio::test(start_paused = true)]
async fn the_file_follows_the_store_and_each_service_has_its_own_file() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let other = "user.rpc/2".parse().unwrap();
    let discovery = Discovery::new(world.spy.clone(), options(folder.path()));
    let (view, second) = (discovery.view(&service()), discovery.view(&other));
    ready(&view, secs(5)).await.unwrap();
    ready(&second, secs(5)).await.unwrap();
    world.put("a").await;
    world.put_as(&node_of(&other, "b")).await;
    advance(2 * WRITTEN).await;
    world.put("c").await;
    advance(2 * WRITTEN).await;
    drop((view, second));
    assert_eq!(files(folder.path()).len(), 2, "drafts were left");

    world.link.inject(Fault::Outage);
    let discovery = world.discovery(options(folder.path()));
    let (view, second) = (discovery.view(&service()), discovery.view(&other));
    until_shown(&view, "a c").await;
    until_shown(&second, "b").await;
}

#[tokio::test(start_paused = true)]
async fn an_unwritable_folder_affects_no_view() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let blocked = folder.path().join("file");
    fs::write(&blocked, "in the way").unwrap();
    let view = world.view(options(&blocked)).await;
    world.put("a").await;
    until_shown(&view, "a").await;
    advance(10 * WRITTEN).await;
    assert!(view.status().is_live());
}

#[tokio::test(start_paused = true)]
async fn retained_instances_are_not_written_to_the_file() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    world.put("a").await;
    world.put("b").await;
    let view = world.view(options(folder.path())).await;
    world.link.inject(Fault::Cut);
    until(&view, |state| !state.status().is_live()).await;
    until_live(&view).await;
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 2).await;
    advance(2 * WRITTEN).await;
    drop(view);
    world.link.inject(Fault::Outage);
    let view = world.discovery(options(folder.path())).view(&service());
    until(&view, |state| state.store_snapshot().is_some()).await;
    assert_eq!(shown(&view), "");
}

#[tokio::test(start_paused = true)]
async fn a_view_without_a_file_is_loading_and_one_with_a_file_is_stale() {
    let world = World::new();
    world.put("a").await;
    let (folder, empty) = (folder(&world).await, TempDir::new().unwrap());
    world.link.inject(Fault::Outage);
    let start = Instant::now();
    let without_file = world.discovery(options(empty.path())).view(&service());
    until(&without_file, |state| state.status().error().is_some()).await;
    let ViewStatus::Loading { since, why: Some(why) } = without_file.status() else { panic!() };
    assert_eq!((since, why.kind()), (start, ErrorKind::Unavailable));
    assert_eq!(without_file.status().to_string(), format!("loading: {why}"));

    let with = world.discovery(options(folder.path())).view(&service());
    until(&with, |state| matches!(state.status(), ViewStatus::Stale { .. })).await;
    assert_eq!(shown(&with), "a");
}

#[tokio::test(start_paused = true)]
async fn ready_returns_a_refusal_at_once_even_with_a_file() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        let world = World::new();
        world.put("a").await;
        let folder = folder(&world).await;
        world.spy.intercept(move |call| {
            matches!(call, Call::Load).then_some(Interception::Refuse(kind))
        });
        let view = world.discovery(options(folder.path())).view(&service());
        let start = Instant::now();
        let error = ready(&view, secs(60)).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (kind, secs(0)));
        until_shown(&view, "a").await;
        let ViewStatus::Stale { why, .. } = view.status() else { panic!("{:?}", view.status()) };
        assert_eq!(why.kind(), kind);

        world.spy.stop_intercepting();
        until_live(&view).await;
        world.spy.intercept(move |call| {
            matches!(call, Call::Load).then_some(Interception::Refuse(kind))
        });
        world.link.inject(Fault::Cut);
        ready(&view, secs(1)).await.expect("the store has answered before");
    }
}

#[test]
fn a_disk_that_hangs_does_not_delay_the_load() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (release, hang) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let world = World::new();
        world.put("a").await;
        let folder = folder(&world).await;
        // This occupies the only blocking thread, so every disk access waits for it.
        let disk = tokio::task::spawn_blocking(move || hang.recv());
        world.put("b").await;
        let start = Instant::now();
        let view = world.view(options(folder.path())).await;
        assert_eq!(shown(&view), "a b");
        assert_eq!(start.elapsed(), secs(0));
        drop(release);
        within(disk).await.unwrap().unwrap_err();
    });
}

#[tokio::test(start_paused = true)]
async fn the_file_of_a_live_view_is_refreshed_without_changes() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    world.put("a").await;
    let view = world.view(options(folder.path())).await;
    advance(WRITTEN).await;
    let file = files(folder.path()).remove(0);
    fs::remove_file(&file).unwrap();
    advance(secs(3600) + WRITTEN).await;
    assert!(file.exists(), "not written again within an hour");

    world.link.inject(Fault::Outage);
    until(&view, |state| !state.status().is_live()).await;
    fs::remove_file(&file).unwrap();
    advance(secs(24 * 3600)).await;
    assert!(!file.exists(), "written without a confirmation of the store");
    world.link.heal();
    until_live(&view).await;
    advance(secs(3600) + WRITTEN).await;
    assert!(file.exists());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_file_and_a_refusal_are_each_logged_once() {
    let logs = Logs::start();
    let world = World::new();
    world.put("a").await;
    let folder = folder(&world).await;
    fs::write(files(folder.path()).remove(0), "not a snapshot").unwrap();
    let refusal = Interception::Refuse(ErrorKind::Denied);
    world
        .spy
        .intercept(move |call| matches!(call, Call::Load | Call::Register(..)).then_some(refusal));
    let view = world.discovery(options(folder.path())).view(&service());
    let registration = world.try_start(node("b"), in_background()).await.unwrap();
    advance(secs(3600)).await;
    let expected = [
        "a snapshot file is unusable and was ignored",
        "a view is not live: retrying",
        "an instance is not registered: retrying",
    ];
    assert_eq!(logs.warnings(), expected);
    world.spy.stop_intercepting();
    until_live(&view).await;
    until_active(&registration).await;
    assert_eq!(logs.warnings(), expected);
}
