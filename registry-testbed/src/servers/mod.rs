//! Servers for tests and benches: found where there is one, started where there is none.
//!
//! [`Etcd::start`] and [`Redis::start`] take the first of
//!
//! 1. the server whose URL is in `REGISTRY_TEST_ETCD_URL` or `REGISTRY_TEST_REDIS_URL`: one that
//!    tests may compact, pause and wipe;
//! 2. a server of our own, run from a binary on `PATH` with its own port and folder, killed on drop;
//! 3. with the feature `docker`, a container from the image in `REGISTRY_TEST_ETCD_IMAGE` or
//!    `REGISTRY_TEST_REDIS_IMAGE`, by default the official one, removed on drop.
//!
//! Where there is none of them the answer is an error that says how to get one. A test fails with
//! it; it is never a reason to skip.
//!
//! [`EtcdCluster`], [`RedisCluster`], [`RedisSentinel`] and servers with TLS (feature `tls`) are
//! children of this process, so only the second will do. Another release than the usual is a matter of [`ServerOptions::path`], or for a
//! whole run of `REGISTRY_TEST_ETCD_PATH`, which stands for `PATH`: `cargo xtask etcd-releases`
//! provides one. Where that is empty there is no binary.
//!
//! The fixtures wait on real processes: use them with a real clock, not with a paused one.

#[cfg(feature = "docker")]
mod docker;
mod error;
mod etcd;
mod exchange;
mod folder;
mod forward;
mod kind;
mod options;
mod probe;
mod process;
mod redis;
mod server;
mod spawn;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use self::error::ServerError;
pub use self::etcd::{Etcd, EtcdCluster, EtcdTokens};
pub use self::options::ServerOptions;
pub use self::process::{Process, free_port};
pub use self::redis::{Redis, RedisCluster, RedisSentinel};
#[cfg(feature = "tls")]
pub use self::tls::{ClientIdentity, ServerTls};
