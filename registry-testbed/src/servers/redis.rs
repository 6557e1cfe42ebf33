//! Redis: standalone, under Sentinel, and a Cluster.

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

/// A running standalone Redis, or Valkey under the same name.
///
/// One of our own keeps nothing on disk unless its options name one, or its arguments say so, as in
/// `["--appendonly", "yes"]`.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Where [`start`](Self::start) looks, as the environment says.
    pub fn options() -> ServerOptions {
        ServerOptions::from_env(&REDIS)
    }

    /// Finds or starts a server.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(Self::options()).await
    }

    /// Finds or starts a server where `options` say.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Server::start(&REDIS, options).await.map(Self)
    }

    /// Starts a server that speaks TLS, and nothing else, from a binary where `options` say. Their URL
    /// and their image are passed over.
    #[cfg(feature = "tls")]
    pub async fn start_tls(options: ServerOptions, tls: &ServerTls) -> Result<Self, ServerError> {
        let program = program(&REDIS, &options)?;
        let ServerOptions { arguments, disk, .. } = options;
        let arguments = [secured(tls), arguments].concat();
        let extra = Extra { arguments, disk, wire: Wire::Tls(tls.clone()), ..Extra::default() };
        Server::run(&REDIS, program, extra).await.map(Self)
    }

    /// The URL for a store: `redis://127.0.0.1:PORT`, with TLS `rediss`.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// What an operator can do to a server that was started from a binary.
    pub fn process(&mut self) -> Result<&mut Process, ServerError> {
        self.0.process()
    }
}

/// How Redis is found, run and recognised.
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
    // One that wants a password is in working order too. One that is loading is not yet.
    ready: |reply| reply.starts_with("+PONG") || reply.starts_with("-NOAUTH"),
};

/// The command line of a standalone server.
#[expect(clippy::unnecessary_wraps, reason = "etcd's can fail, and both stand in a `Kind`")]
fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { scheme, host, port, data, durable, .. } = place;
    let port = port.to_string();
    let data = data.display().to_string();
    let (plain, secured) = if *scheme == "https" { ("0", &*port) } else { (&*port, "0") };
    let mut arguments = vec![
        ["--port", plain],
        ["--bind", host],
        ["--dir", &data],
        // In a container it is reached from outside its own loopback interface.
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

/// The words of a command line.
fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What makes a server speak TLS.
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
