//! Servers for tests and benches: an existing one, or one that is started.
//!
//! [`Etcd::start`] and [`Redis::start`] use the first of these that exists:
//!
//! 1. The server at the URL in `REGISTRY_TEST_ETCD_URL` or `REGISTRY_TEST_REDIS_URL`. Tests may
//!    compact, pause and wipe it.
//! 2. A child process from a binary on `PATH`, with its own port and folder. It is killed on drop.
//! 3. With the feature `docker`, a container from the image in `REGISTRY_TEST_ETCD_IMAGE` or
//!    `REGISTRY_TEST_REDIS_IMAGE`. Default: the official image. It is removed on drop.
//!
//! If there is none, the error says how to get one. A test must fail with it, never skip.
//!
//! [`EtcdCluster`], [`RedisCluster`], [`RedisSentinel`] and servers with TLS (feature `tls`) are always
//! child processes. [`ServerOptions::path`] selects another release. For a whole run, set
//! `REGISTRY_TEST_ETCD_PATH`, which replaces `PATH`: `cargo xtask etcd-releases` provides releases. If
//! it is empty, no binary is found.
//!
//! The fixtures wait for real processes, so use them with a real clock, not with a paused one.

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
