//! Figures and their targets: `cargo run --release -p comparison -- figures NAME`.
//!
//! Counts (allocations, bytes, requests, changes) are the same on every machine: the process fails if one misses its
//! target. Times are measured in paired rounds and only reported.

mod calls;
mod cold_start;
mod fan_out;
mod go;
mod grpc_calls;
mod grpc_faults;
mod grpc_subset;
mod large;
mod load;
mod memory;
mod others;
mod own_records;
mod pick;
mod renewals;
mod standstill;
mod watches;

use crate::harness::{Figures, Progress, StealTime, Store, machine, one_thread, two_threads};
use crate::workloads::record_len;
use anyhow::{Result, ensure};

/// A set of figures: its name, its description, and a function that measures it, in full or `quick`.
type Set = (&'static str, &'static str, fn(bool) -> Result<Figures>);

/// Measures on a runtime of one thread.
macro_rules! one {
    ($figures:path $(, $store:expr)?) => {
        |quick| one_thread()?.block_on($figures($($store,)? quick))
    };
}

/// Measures on a runtime of two threads.
macro_rules! two {
    ($figures:path, $store:expr) => {
        |quick| two_threads()?.block_on($figures($store, quick))
    };
}

const ALL: &[Set] = &[
    ("cold-start", "until the first pick, compared with raw", one!(cold_start::figures)),
    ("pick", "one of 100 instances, through a handle", pick::figures),
    ("fan-out", "one change, to 10,000 subscribers", fan_out::figures),
    ("load", "10,000 changes/s to 1,000 services of ten subscribers, some stuck", load::figures),
    ("mem-memory", "100,000 instances in views; with `--features heap`", memory::figures),
    ("mem-others", "calls in a store with 10,000 other services", one!(others::figures)),
    ("mem-renewals", RENEWALS, two!(renewals::figures, Store::Mem)),
    ("mem-own-records", OWN_RECORDS, |quick| own_records::figures(Store::Mem, quick)),
    ("etcd-calls", CALLS, one!(calls::etcd)),
    ("etcd-large", LARGE, one!(large::figures, Store::Etcd)),
    ("etcd-own-records", OWN_RECORDS, |quick| own_records::figures(Store::Etcd, quick)),
    ("etcd-renewals", RENEWALS, two!(renewals::figures, Store::Etcd)),
    ("etcd-standstill", STANDSTILL, two!(standstill::figures, Store::Etcd)),
    ("etcd-watches", "10,000 watches of one process", one!(watches::etcd)),
    ("redis-calls", CALLS, one!(calls::redis)),
    ("redis-large", LARGE, one!(large::figures, Store::Redis)),
    ("redis-own-records", OWN_RECORDS, |quick| own_records::figures(Store::Redis, quick)),
    ("redis-renewals", RENEWALS, two!(renewals::figures, Store::Redis)),
    ("redis-standstill", STANDSTILL, two!(standstill::figures, Store::Redis)),
    ("redis-watches", "1,000 services watched by one process", one!(watches::redis)),
    ("go", "go-zero compared with this library, on one etcd", one!(go::figures)),
    ("grpc-calls", "one call at a time, compared with tonic's channels", one!(grpc_calls::figures)),
    ("grpc-faults", "one of ten instances killed, one drained, one slowed", grpc_faults::figures),
    ("grpc-subset", "connections moved by a change, 32 of 1,000", |quick| {
        Ok(grpc_subset::figures(quick))
    }),
];

/// The index of the registry among the arms of [`in_turns`](crate::harness::in_turns), between two of the reference.
const OUR_ARM: usize = 1;
const CALLS: &str = "one call at a time, compared with the raw client";
const LARGE: &str = "a service of 20,000 instances: loaded, and in a live view";
const OWN_RECORDS: &str = "how soon deleted records are registered again";
const RENEWALS: &str = "100,000 registrations, renewed at a ttl of 30 s to 3 s";
const STANDSTILL: &str = "100,000 registrations on a paused server";

pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|(name, what, _)| (*name, *what))
}

/// Prints the sets whose names begin with one of `names`. Returns whether all counts meet their targets.
pub fn run(names: &[String], quick: bool) -> Result<bool> {
    let is_chosen = |set: &&Set| names.iter().any(|name| name == "all" || set.0.starts_with(name));
    let chosen: Vec<&Set> = ALL.iter().filter(is_chosen).collect();
    ensure!(
        !chosen.is_empty(),
        "no set of figures has a name that begins with one of {names:?}: see `figures --list`"
    );
    println!("{}, records of {} bytes", machine::describe(), record_len()?);
    let (before, mut holds) = (StealTime::now(), true);
    let progress = Progress::new("figures");
    for (done, (name, what, measure)) in chosen.iter().enumerate() {
        progress.update(name, machine::as_f64(done) / machine::as_f64(chosen.len()));
        let figures = measure(quick)?;
        println!("\n{name}: {what}\n{figures}");
        holds &= figures.holds();
    }
    if let (Some(before), Some(now)) = (before, StealTime::now()) {
        let stolen = now.since(before);
        println!("\n{stolen:.1} % of the CPU time was stolen by other virtual machines");
    }
    Ok(holds)
}
