//! etcd with one member, and with three.

mod auth;
mod cluster;
mod gateway;
mod kind;
mod network;

pub use self::auth::EtcdTokens;
pub use self::cluster::EtcdCluster;

use self::kind::ETCD;
#[cfg(feature = "tls")]
use super::ServerTls;
#[cfg(feature = "tls")]
use super::process::Extra;
use super::server::Server;
#[cfg(feature = "tls")]
use super::server::program;
#[cfg(feature = "tls")]
use super::wire::Wire;
use super::{Process, ServerError, ServerOptions};

/// A running etcd with one member.
///
/// If it was started here, it keeps its cluster id when it is wiped and restarted, as a real member with a lost
/// disk does. It sends a progress notification every 200 ms.
#[derive(Debug)]
pub struct Etcd(Server);

impl Etcd {
    /// The password of the users that [`enable_auth`](Self::enable_auth) creates.
    pub const PASSWORD: &str = auth::PASSWORD;

    /// Returns the options of [`start`](Self::start), from the environment.
    pub fn options() -> ServerOptions {
        ServerOptions::from_env(&ETCD)
    }

    /// Finds or starts a server.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(Self::options()).await
    }

    /// Finds or starts a server with `options`.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Server::start(&ETCD, options).await.map(Self)
    }

    /// Starts a server with TLS for its clients, from a binary. Ignores the URL and the image of `options`.
    #[cfg(feature = "tls")]
    pub async fn start_tls(options: ServerOptions, tls: &ServerTls) -> Result<Self, ServerError> {
        let program = program(&ETCD, &options)?;
        let ServerOptions { arguments, disk, .. } = options;
        let arguments = [secured(tls), arguments].concat();
        let extra = Extra { arguments, disk, wire: Wire::Tls(tls.clone()), ..Extra::default() };
        Server::run(&ETCD, program, extra).await.map(Self)
    }

    /// Returns the URL for a store: `etcd://127.0.0.1:PORT`, with TLS `etcds`.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns the endpoint for a client or `etcdctl`: `http://127.0.0.1:PORT`, with TLS `https`.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.0.wire.scheme(), self.0.address)
    }

    /// Returns the release, such as `3.5.16`.
    pub async fn release(&self) -> Result<String, ServerError> {
        gateway::release(&self.0.wire, &self.0.address).await
    }

    /// Enables authentication with the users `root`, which may do everything, and `app`, which may read and write
    /// the keys that start with `prefix`. Start the server with the arguments of [`EtcdTokens`].
    ///
    /// When this returns, a client without a user is refused.
    pub async fn enable_auth(&self, prefix: &str) -> Result<(), ServerError> {
        if self.0.is_given() {
            return Err(ServerError::NotSupported { backing: "a URL" });
        }
        auth::enable(&self.0.wire, &self.0.address, prefix).await
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

/// Returns the arguments that enable TLS for clients.
#[cfg(feature = "tls")]
fn secured(tls: &ServerTls) -> Vec<String> {
    let mut arguments = vec![
        format!("--cert-file={}", tls.server_certificate().display()),
        format!("--key-file={}", tls.server_key().display()),
    ];
    if tls.checks_clients() {
        arguments.push("--client-cert-auth".to_owned());
        arguments.push(format!("--trusted-ca-file={}", tls.ca().display()));
    }
    arguments
}
