//! Redis: standalone, with Sentinel, and as a Cluster.

mod cluster;
mod command;
mod network;
mod sentinel;

pub use self::cluster::RedisCluster;
pub use self::sentinel::RedisSentinel;

#[cfg(feature = "tls")]
use super::ServerTls;
use super::kind::{Kind, Place};
#[cfg(feature = "tls")]
use super::process::Extra;
use super::server::Server;
#[cfg(feature = "tls")]
use super::server::program;
#[cfg(feature = "tls")]
use super::wire::Wire;
use super::{Process, ServerError, ServerOptions};

/// A running standalone Redis, or a Valkey.
///
/// If it was started here, it keeps nothing on disk unless its options have a `disk`, or arguments such as
/// `["--appendonly", "yes"]`.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Returns the options of [`start`](Self::start), from the environment.
    pub fn options() -> ServerOptions {
        ServerOptions::from_env(&REDIS)
    }

    /// Finds or starts a server.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(Self::options()).await
    }

    /// Finds or starts a server with `options`.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Server::start(&REDIS, options).await.map(Self)
    }

    /// Starts a server that accepts only TLS, from a binary. Ignores the URL and the image of `options`.
    #[cfg(feature = "tls")]
    pub async fn start_tls(options: ServerOptions, tls: &ServerTls) -> Result<Self, ServerError> {
        let program = program(&REDIS, &options)?;
        let ServerOptions { arguments, disk, .. } = options;
        let arguments = [secured(tls), arguments].concat();
        let extra = Extra { arguments, disk, wire: Wire::Tls(tls.clone()), ..Extra::default() };
        Server::run(&REDIS, program, extra).await.map(Self)
    }

    /// Returns the URL for a store: `redis://127.0.0.1:PORT`, with TLS `rediss`.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns the address: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Returns the child process, for an operator's actions.
    ///
    /// # Errors
    ///
    /// `NotSupported` if the server was not started from a binary.
    pub fn process(&mut self) -> Result<&mut Process, ServerError> {
        self.0.process()
    }
}

/// How to find, start and probe Redis.
static REDIS: Kind = Kind {
    name: "redis",
    program: "redis-server",
    url_variable: "REGISTRY_TEST_REDIS_URL",
    path_variable: "REGISTRY_TEST_REDIS_PATH",
    image_variable: "REGISTRY_TEST_REDIS_IMAGE",
    image: "redis:8.0",
    port: 6379,
    arguments,
    request: "PING\r\nQUIT\r\n",
    // A server that requires a password is ready, too. A server that is loading is not.
    ready: |reply| reply.starts_with("+PONG") || reply.starts_with("-NOAUTH"),
};

/// Returns the command line of a standalone server.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the function of etcd can fail, and `Kind` has one type for both"
)]
fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { scheme, host, port, data, durable, .. } = place;
    let port = port.to_string();
    let data = data.display().to_string();
    let (plain, secured) = if *scheme == "https" { ("0", &*port) } else { (&*port, "0") };
    let mut arguments = vec![
        ["--port", plain],
        ["--bind", host],
        ["--dir", &data],
        // In a container, clients connect from outside its loopback interface.
        ["--protected-mode", "no"],
        ["--save", ""],
        ["--appendonly", if *durable { "yes" } else { "no" }],
    ];
    if *durable {
        arguments.push(["--appendfsync", "always"]);
    }
    if secured != "0" {
        arguments.push(["--tls-port", secured]);
    }
    Ok(arguments.concat().into_iter().map(str::to_owned).collect())
}

/// Splits a command line into words.
fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Returns the arguments that enable TLS.
#[cfg(feature = "tls")]
fn secured(tls: &ServerTls) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let arguments = [
        ["--tls-cert-file".to_owned(), path(tls.server_certificate())],
        ["--tls-key-file".to_owned(), path(tls.server_key())],
        ["--tls-ca-cert-file".to_owned(), path(tls.ca())],
        [
            "--tls-auth-clients".to_owned(),
            if tls.checks_clients() { "yes" } else { "no" }.to_owned(),
        ],
    ];
    arguments.concat()
}
