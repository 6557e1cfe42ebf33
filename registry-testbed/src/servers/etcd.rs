//! etcd: of one member, and of three.

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

/// A running etcd of one member.
///
/// One of our own keeps its cluster id when it is wiped and restarted, as a real member whose disk
/// was lost does, and sends a progress notification every 200 ms.
#[derive(Debug)]
pub struct Etcd(Server);

impl Etcd {
    /// The password of the users that [`enable_auth`](Self::enable_auth) makes.
    pub const PASSWORD: &str = auth::PASSWORD;

    /// Where [`start`](Self::start) looks, as the environment says.
    pub fn options() -> ServerOptions {
        ServerOptions::from_env(&ETCD)
    }

    /// Finds or starts a server.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(Self::options()).await
    }

    /// Finds or starts a server where `options` say.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        Server::start(&ETCD, options).await.map(Self)
    }

    /// Starts a server that speaks TLS with its clients, from a binary where `options` say. Their
    /// URL and their image are passed over.
    #[cfg(feature = "tls")]
    pub async fn start_tls(options: ServerOptions, tls: &ServerTls) -> Result<Self, ServerError> {
        let program = program(&ETCD, &options)?;
        let ServerOptions { arguments, disk, .. } = options;
        let arguments = [secured(tls), arguments].concat();
        let extra = Extra { arguments, disk, wire: Wire::Tls(tls.clone()), ..Extra::default() };
        Server::run(&ETCD, program, extra).await.map(Self)
    }

    /// The URL for a store: `etcd://127.0.0.1:PORT`, with TLS `etcds`.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The endpoint for a client or for `etcdctl`: `http://127.0.0.1:PORT`, with TLS `https`.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.0.wire.scheme(), self.0.address)
    }

    /// Its release, as `3.5.16`.
    pub async fn release(&self) -> Result<String, ServerError> {
        gateway::release(&self.0.wire, &self.0.address).await
    }

    /// Makes the users `root`, who may do everything, and `app`, who may read and write the keys
    /// that begin with `prefix`, and turns authentication on. See [`EtcdTokens`] for what to start
    /// it with.
    ///
    /// When this returns a client without a name is refused.
    pub async fn enable_auth(&self, prefix: &str) -> Result<(), ServerError> {
        if self.0.is_given() {
            return Err(ServerError::NotSupported { backing: "a URL" });
        }
        auth::enable(&self.0.wire, &self.0.address, prefix).await
    }

    /// What an operator can do to a server that was started from a binary.
    pub fn process(&mut self) -> Result<&mut Process, ServerError> {
        self.0.process()
    }
}

/// What makes a server speak TLS with its clients.
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
