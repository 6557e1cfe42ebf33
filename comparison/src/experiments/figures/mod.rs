//! Figures beside their targets: `cargo run --release -p comparison -- figures NAME`.
//!
//! What is counted (instructions, allocations, bytes, requests, changes) is the same on every machine: if it misses its
//! target, so does the process, by its exit status. What is timed is measured in turns with what it is compared
//! with, and only reported.

mod cold_start;
mod etcd_calls;
mod etcd_leases;
mod etcd_load;
mod etcd_own_records;
mod etcd_watches;
mod expiry;
mod fan_out;
mod grpc_calls;
mod grpc_faults;
mod grpc_schedule;
mod grpc_subset;
mod load;
mod memory;
mod own_records;
mod pick;
mod redis_calls;
mod redis_load;
mod redis_watches;
mod registrations;
mod renewals;
mod standstill;
mod traffic;

use crate::harness::{Figures, Progress, StealTime, machine, one_thread};
use crate::workloads::record_len;
use anyhow::{Result, ensure};

/// A set of figures: its name, what it shows, and what measures it, in full or only to see that it works.
type Set = (&'static str, &'static str, fn(bool) -> Result<Figures>);

/// Measures on a runtime of one thread.
macro_rules! one {
    ($figures:path) => {
        |quick| one_thread()?.block_on($figures(quick))
    };
}

const ALL: [Set; 24] = [
    (
        "cold-start",
        "connect to the first instance, beside the raw client",
        one!(cold_start::figures),
    ),
    ("pick", "one of 100 instances, through a handle", pick::figures),
    ("fan-out", "one change, to 10,000 subscribers", fan_out::figures),
    ("registrations", "100,000 registrations, kept alive", registrations::figures),
    ("memory", "100,000 instances, held by views; with `--features heap`", one!(memory::figures)),
    ("load", "10,000 changes/s, 1,000 services of ten subscribers, some stuck", load::figures),
    (
        "etcd-calls",
        "one call at a time, beside the raw client with the same requests",
        one!(etcd_calls::figures),
    ),
    ("etcd-watches", "10,000 watches of one process", one!(etcd_watches::figures)),
    ("etcd-load", "a service of 100,000 instances, loaded", one!(etcd_load::figures)),
    ("etcd-leases", "10,000 registrations at once", one!(etcd_leases::figures)),
    ("etcd-renewals", "100,000 registrations, kept at ttl 30 s to 3 s", renewals::etcd),
    ("etcd-standstill", "100,000 registrations on a server that stands still", standstill::etcd),
    ("etcd-expiry", "1,000 leases that expire together", one!(expiry::etcd)),
    (
        "etcd-own-records",
        "records that are deleted behind their registrations' backs",
        one!(etcd_own_records::figures),
    ),
    (
        "own-records",
        "records that are deregistered behind their registrations' backs",
        one!(own_records::figures),
    ),
    (
        "redis-calls",
        "one call at a time, beside the raw client with the same writes",
        one!(redis_calls::figures),
    ),
    ("redis-expiry", "how late an expiry is seen, beside keys with a ttl", one!(expiry::redis)),
    (
        "redis-load",
        "a service of 100,000 instances: loaded, held, renewed",
        one!(redis_load::figures),
    ),
    ("redis-renewals", "100,000 registrations, kept at ttl 30 s to 3 s", renewals::redis),
    ("redis-standstill", "100,000 registrations on a server that stands still", standstill::redis),
    ("redis-watches", "1,000 services watched by one process", one!(redis_watches::figures)),
    (
        "grpc-calls",
        "one call at a time to three endpoints, beside tonic's channels",
        one!(grpc_calls::figures),
    ),
    (
        "grpc-faults",
        "one of ten instances is killed, one drained, one slowed",
        grpc_faults::figures,
    ),
    (
        "grpc-subset",
        "connections that a change moves, of 32 to 1,000 instances",
        one!(grpc_subset::figures),
    ),
];

/// Returns the names, and what each shows.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|(name, what, _)| (*name, *what))
}

/// Runs the sets whose names begin with one of `names`, and prints the figures of each as they come. Returns whether
/// all that is counted holds.
pub fn run(names: &[String], quick: bool) -> Result<bool> {
    let is_chosen = |set: &&Set| names.iter().any(|name| name == "all" || set.0.starts_with(name));
    let chosen: Vec<&Set> = ALL.iter().filter(is_chosen).collect();
    ensure!(!chosen.is_empty(), "no figures begin with {names:?}: `figures --list` names them all");
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
        println!("\n{:.1} % of the time was stolen by other machines", now.since(before));
    }
    Ok(holds)
}
