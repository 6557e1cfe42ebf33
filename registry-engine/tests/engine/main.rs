//! The engine over the memory store: days of outages in milliseconds of a paused clock.

#![allow(clippy::unwrap_used)]

mod go_zero;
mod hot_loops;
mod incarnations;
mod leaks;
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
mod turns;
mod updating;
mod view;
