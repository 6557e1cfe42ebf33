//! The parts that all measurements share: paired rounds, tables, servers and counters.

pub mod etcd_server;
pub mod figures;
pub mod fixture;
pub mod fleet;
pub mod go_program;
pub mod heap;
pub mod latch;
pub mod levels;
pub mod machine;
pub mod observe;
pub mod paired;
pub mod progress;
pub mod redis_link;
pub mod redis_server;
pub mod stores;
pub mod table;

pub use self::etcd_server::EtcdServer;
pub use self::figures::{Figure, Figures};
pub use self::fixture::ServiceFixture;
pub use self::fleet::Fleet;
pub use self::heap::Heap;
pub use self::latch::CountdownLatch;
pub use self::levels::{Level, describe_sync_cost};
pub use self::machine::{StealTime, as_f64, process_time, resident, thread_time};
pub use self::observe::{Change, Client, Event, EventLog, Values};
pub use self::paired::{Comparison, Plan, Spread, compare, compare_anew, in_turns, plan, prepare};
pub use self::progress::Progress;
pub use self::redis_link::RedisLink;
pub use self::redis_server::RedisServer;
pub use self::stores::{Server, Store, StoreOptions};
pub use self::table::{Latencies, Table};

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};

/// Returns a single-threaded runtime, because a switch to another thread costs as much as a request to Redis.
pub fn one_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Returns a runtime with two worker threads, as in a service.
pub fn two_threads() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
