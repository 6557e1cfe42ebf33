//! Instruction counts of the hot paths under valgrind, which hardly depend on the load of the machine.
//!
//! `cargo xtask instructions` compares them with `comparison/instructions.json`. Each path runs a hundred times, so
//! that one-time work weighs little. Setup and the final drop are not counted.
//!
//! Ids, leases and picks are fixed. Some randomness remains in the libraries: the seeds of std's hash maps and the
//! order in which a view's task polls its sources cause 0.3 %. The name of the memory store's history is random, too,
//! so only names of the usual length are used. The code reads the clock, so its count depends on the load: with a
//! twentieth of a processor, a change to a watch took 1 % fewer instructions. So the two counts of the group `changes`
//! may differ by 2 %.

#![allow(clippy::unwrap_used)]
#![allow(missing_docs, unused_qualifications, reason = "the macros of gungraun cause them")]

use comparison::harness::{ServiceFixture, fixture};
use comparison::workloads::{Pick, Picks};
use futures_util::{FutureExt, StreamExt};
use gungraun::{library_benchmark, library_benchmark_group, main};
use registry_core::encoding;
use registry_core::{
    CallOptions, Claim, Cursor, Instance, Lease, LeaseId, MAX_TTL, Origin, Record, Registry,
    Revision, ServiceName, Watch,
};
use registry_mem::MemRegistry;
use service_registry::Client;
use service_registry::serve::Connection;
use std::fmt::Debug;
use std::future::poll_fn;
use std::hint::black_box;
use std::io;
use std::iter::repeat_with;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

const TIMES: u32 = 100;
const INSTANCES: u32 = 100;

library_benchmark_group!(name = picks, benchmarks = [pick_by_reader, pick_by_state, pick_for_call]);
library_benchmark_group!(
    name = texts,
    benchmarks = [record_encode, record_decode, cursor_format, cursor_parse]
);
library_benchmark_group!(
    name = memory,
    benchmarks = [mem_register, mem_keep_alive, mem_load_100, mem_deregister]
);
library_benchmark_group!(name = changes, benchmarks = [change_to_watch, change_to_view]);
library_benchmark_group!(name = calls, benchmarks = [call_read_bare, call_read]);
main!(library_benchmark_groups = [picks, texts, memory, changes, calls]);

#[library_benchmark]
#[bench::of_100(runtime().block_on(Picks::new()).unwrap())]
fn pick_by_reader(picks: Picks) -> Picks {
    Pick::Reader.run(&picks, TIMES.into());
    picks
}

#[library_benchmark]
#[bench::of_100(runtime().block_on(Picks::new()).unwrap())]
fn pick_by_state(picks: Picks) -> Picks {
    Pick::State.run(&picks, TIMES.into());
    picks
}

// Counts `View::pick` of the facade, and the drop of the pick.
#[library_benchmark]
#[bench::of_100(balanced_view())]
fn pick_for_call(view: service_registry::View) -> service_registry::View {
    for _ in 0..TIMES {
        drop(black_box(view.pick()));
    }
    view
}

#[library_benchmark]
#[bench::four_entries(Record::new(described()))]
fn record_encode(record: Record) -> Record {
    for _ in 0..TIMES {
        black_box(encoding::encode(black_box(&record)).unwrap());
    }
    record
}

#[library_benchmark]
#[bench::four_entries(described(), encoding::encode(&Record::new(described())).unwrap())]
fn record_decode(instance: Instance, record: Vec<u8>) -> (Instance, Vec<u8>) {
    for _ in 0..TIMES {
        black_box(encoding::decode(instance.service(), instance.id(), black_box(&record)).unwrap());
    }
    (instance, record)
}

#[library_benchmark]
#[bench::of_etcd(cursor())]
fn cursor_format(cursor: Cursor) -> Cursor {
    for _ in 0..TIMES {
        black_box(black_box(&cursor).to_string());
    }
    cursor
}

#[library_benchmark]
#[bench::of_etcd(cursor().to_string())]
fn cursor_parse(text: String) -> String {
    for _ in 0..TIMES {
        black_box(black_box(&text).parse::<Cursor>().unwrap());
    }
    text
}

#[library_benchmark]
#[bench::beside_100(Store::new())]
fn mem_register(mut store: Store) -> Store {
    for (instance, claim) in &store.others {
        let lease = at_once(store.registry.register(instance, claim, &CallOptions::DEFAULT));
        store.leases.push(lease);
    }
    store
}

#[library_benchmark]
#[bench::of_100(Store::new())]
fn mem_keep_alive(store: Store) -> Store {
    for lease in &store.leases {
        at_once(store.registry.keep_alive(lease, &CallOptions::DEFAULT));
    }
    store
}

#[library_benchmark]
#[bench::of_100(Store::new())]
fn mem_load_100(store: Store) -> Store {
    for _ in 0..TIMES {
        black_box(at_once(store.registry.load(&store.service, &CallOptions::DEFAULT)));
    }
    store
}

#[library_benchmark]
#[bench::of_100(Store::new())]
fn mem_deregister(store: Store) -> Store {
    for lease in &store.leases {
        at_once(store.registry.deregister(lease, &CallOptions::DEFAULT));
    }
    store
}

// Counts from the call of `register` until the watch yields the batch.
#[library_benchmark]
#[bench::of_100(watched())]
fn change_to_watch((mut followed, mut watch): (Followed, Watch)) -> (Followed, Watch) {
    let Followed { runtime, service } = &mut followed;
    runtime.block_on(async {
        for _ in 0..TIMES {
            service.change().await.unwrap();
            black_box(watch.next().await.unwrap().unwrap());
        }
    });
    (followed, watch)
}

// Counts from the call of `register` until the state shows the change.
#[library_benchmark]
#[bench::of_100(followed())]
fn change_to_view(mut followed: Followed) -> Followed {
    let Followed { runtime, service } = &mut followed;
    runtime.block_on(async {
        for _ in 0..TIMES {
            service.change().await.unwrap();
            service.view.changed().await.unwrap();
            black_box(service.view.state().records());
        }
    });
    followed
}

// `call_read` reads a call through the `Connection` in which `serve` wraps it, and `call_read_bare` without that.
#[library_benchmark]
#[bench::of_grpc_go(begun(Calls::default()))]
fn call_read_bare(calls: Calls) -> Calls {
    read_calls(calls)
}

#[library_benchmark]
#[bench::of_grpc_go(begun(Connection::new(Calls::default())))]
fn call_read(calls: Connection<Calls>) -> Connection<Calls> {
    read_calls(calls)
}

fn read_calls<T: AsyncRead + Unpin>(mut calls: T) -> T {
    for _ in 0..TIMES {
        black_box(read_once(&mut calls));
    }
    calls
}

/// Returns a connection whose preface has been read.
fn begun<T: AsyncRead + Unpin>(mut calls: T) -> T {
    read_once(&mut calls);
    calls
}

/// Reads the available bytes, and returns their number.
fn read_once(io: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut space = [0; 128];
    let mut buf = ReadBuf::new(&mut space);
    at_once(poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)));
    black_box(buf.filled()).len()
}

/// A connection whose first read yields the preface, and each later read one call.
#[derive(Default)]
struct Calls {
    is_begun: bool,
}

impl Calls {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// HEADERS with two static and five dynamic table entries and a literal deadline; then DATA.
    const CALL: &[u8] =
        b"\0\0\x0d\x01\x04\0\0\0\x01\x83\x86\xc5\xc4\xc3\xc2\xc1\x7e\x84\x0d\xb6\xdb\x53\
        \0\0\x0a\0\x01\0\0\0\x01\0\0\0\0\x05\x08\x96\x01\x10\x07";
}

impl AsyncRead for Calls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(if self.is_begun { Self::CALL } else { Self::PREFACE });
        self.is_begun = true;
        Poll::Ready(Ok(()))
    }
}

/// Returns a view of the facade after a first pick, which gives its balancer the state.
fn balanced_view() -> service_registry::View {
    fastrand::seed(7);
    let runtime = runtime();
    let view = runtime.block_on(async {
        let service = ServiceFixture::new(usize::try_from(INSTANCES).unwrap()).await.unwrap();
        let client = Client::from_registry(service.registry.clone());
        let view = client.discover(service.view.service()).unwrap();
        view.ready(Duration::from_secs(60)).await.unwrap();
        view
    });
    drop(view.pick().unwrap());
    std::mem::forget(runtime); // dropping it would end the view's task and change the state
    view
}

struct Store {
    registry: MemRegistry,
    service: ServiceName,
    /// The leases of the registered instances, with capacity for [`others`](Self::others).
    leases: Vec<Lease>,
    /// Instances that are not registered yet.
    others: Vec<(Instance, Claim)>,
}

impl Store {
    fn new() -> Self {
        // A short history is full after few changes, and then each change has its usual cost.
        let mut registries = repeat_with(|| MemRegistry::with_history_limit(8));
        let registry = registries.find(is_usual).unwrap();
        let mut leases = Vec::with_capacity(usize::try_from(INSTANCES + TIMES).unwrap());
        for n in 0..INSTANCES {
            let (instance, claim) = (instance(n), claim(n));
            leases.push(at_once(registry.register(&instance, &claim, &CallOptions::DEFAULT)));
        }
        let others = (INSTANCES..INSTANCES + TIMES).map(|n| (instance(n), claim(n))).collect();
        Self { registry, service: service(), leases, others }
    }
}

/// Returns whether the random name of the history, which every cursor contains, has the usual length of 16 digits.
fn is_usual(registry: &MemRegistry) -> bool {
    let cursor = at_once(registry.load(&service(), &CallOptions::DEFAULT)).cursor().to_string();
    cursor.rsplit(':').next().is_some_and(|name| name.len() == 16)
}

/// A service in memory with a live view.
struct Followed {
    runtime: Runtime,
    service: ServiceFixture,
}

fn followed() -> Followed {
    let runtime = runtime();
    let new = || runtime.block_on(ServiceFixture::new(INSTANCES as usize)).unwrap();
    let service = repeat_with(new).find(|service| is_usual(&service.registry)).unwrap();
    runtime.block_on(async {
        for _ in 0..TIMES {
            yield_now().await; // lets the view's task finish its work
        }
    });
    Followed { runtime, service }
}

/// Returns a followed service and a watch of it.
fn watched() -> (Followed, Watch) {
    let followed = followed();
    let (registry, name) = (&followed.service.registry, followed.service.view.service());
    let cursor = at_once(registry.load(name, &CallOptions::DEFAULT)).cursor().clone();
    let mut watch = at_once(registry.watch(name, &cursor, &CallOptions::DEFAULT));
    followed.runtime.block_on(async { assert!(watch.next().now_or_never().is_none()) });
    (followed, watch)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Returns the result of a call to the memory store, which never waits.
fn at_once<T, E: Debug>(answer: impl Future<Output = Result<T, E>>) -> T {
    answer.now_or_never().unwrap().unwrap()
}

fn service() -> ServiceName {
    fixture::service(1).unwrap()
}

fn instance(n: u32) -> Instance {
    fixture::instance(&service(), n as usize).unwrap()
}

fn claim(n: u32) -> Claim {
    let lease = LeaseId::new(i64::from(n) + 1).unwrap();
    Claim::new(MAX_TTL).unwrap().with_lease(lease)
}

fn described() -> Instance {
    let entries = [
        ("zone", "eu-central-1a"),
        ("version", "2.14.3"),
        ("protocol", "grpc"),
        ("build", "3f9c2a7e51d04b86"),
    ];
    instance(1).with_metadata(entries)
}

/// Returns a cursor as the etcd store makes it.
fn cursor() -> Cursor {
    let origin = Origin::new("etcd", "/registry/prod", &service());
    origin.cursor(Revision::new(48_151_623), "cdf818194e3a8c32.100.p48151620.6fd2a91c04e7b358")
}
