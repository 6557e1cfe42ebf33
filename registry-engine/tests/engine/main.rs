//! Tests of the engine over the memory store, on a paused clock, so that long outages take milliseconds.

#![allow(clippy::unwrap_used)]

mod go_zero;
mod hot_loops;
mod incarnations;
mod leaks;
mod limiter;
mod logs;
mod monitor;
mod own_record;
mod peers;
mod promises;
mod races;
mod registration;
mod renewals;
mod retained;
mod returning;
mod scripts;
mod silence;
mod snapshot_file;
mod spy;
mod starting;
mod stopping;
mod subscribers;
mod support;
mod updating;
mod view;
