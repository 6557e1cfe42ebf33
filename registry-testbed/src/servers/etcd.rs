//! etcd: of one member, and of three.

mod auth;
mod cluster;
mod gateway;
mod network;

pub use self::auth::EtcdTokens;
pub use self::cluster::EtcdCluster;

use std::path::Path;
use std::process::Command;

#[cfg(feature = "tls")]
use super::{Extra, ServerTls, Wire, program};
use super::{Kind, Place, Process, Server, ServerError, ServerOptions};

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

/// How etcd is found, run and recognised.
static ETCD: Kind = Kind {
    name: "etcd",
    program: "etcd",
    url_variable: "REGISTRY_TEST_ETCD_URL",
    path_variable: "REGISTRY_TEST_ETCD_PATH",
    image_variable: "REGISTRY_TEST_ETCD_IMAGE",
    image: "quay.io/coreos/etcd:v3.5.16",
    port: 2379,
    arguments,
    request: "GET /health HTTP/1.0\r\n\r\n",
    ready: |reply| reply.contains(r#""health":"true""#),
};

/// The oldest release with `--experimental-watch-progress-notify-interval`.
const OLDEST: (u64, u64, u64) = (3, 4, 11);

/// The command line of a single member.
fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { program, scheme, host, port, data, durable } = place;
    // A container's release is not known before it runs; what every 3.4 to 3.6 knows will do there.
    let release = program.map_or(Ok(OLDEST), release)?;
    let mut arguments = vec![
        "--name=registry-test".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={scheme}://{host}:{port}"),
        format!("--advertise-client-urls={scheme}://127.0.0.1:{port}"),
        // Nobody calls a single member as a peer. What it advertises makes its cluster id, together
        // with the token: two servers differ, one that was wiped and restarted stays the same.
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=registry-test=http://127.0.0.1:2380".to_owned(),
        format!("--initial-cluster-token=registry-test-{port}"),
        "--logger=zap".to_owned(),
        "--log-level=error".to_owned(),
        "--log-outputs=stderr".to_owned(),
    ];
    if release >= (3, 5, 0) && !durable {
        arguments.push("--unsafe-no-fsync".to_owned());
    }
    let experimental = if release >= (3, 6, 0) { "" } else { "experimental-" };
    arguments.push(format!("--{experimental}watch-progress-notify-interval=200ms"));
    Ok(arguments)
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

/// The release of a binary, from its first line: `etcd Version: 3.4.23`.
fn release(program: &Path) -> Result<(u64, u64, u64), ServerError> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(ServerError::io("run `etcd --version`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    parse_release(line).filter(|release| *release >= OLDEST).ok_or_else(|| ServerError::TooOld {
        server: ETCD.name,
        found: line.to_owned(),
        needed: "3.4.11",
    })
}

/// Reads the three numbers at the end of `etcd Version: 3.5.0-rc.1`.
fn parse_release(line: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = line
        .strip_prefix("etcd Version: ")?
        .split(['.', '-', '+'])
        .map_while(|number| number.trim().parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_releases() {
        assert_eq!(parse_release("etcd Version: 3.4.23"), Some((3, 4, 23)));
        assert_eq!(parse_release("etcd Version: 3.5.0-rc.1"), Some((3, 5, 0)));
        assert_eq!(parse_release("etcd Version: 3.6"), None);
        assert_eq!(parse_release("some other program"), None);
    }

    #[test]
    fn flags_follow_the_release() {
        let (host, data) = ("0.0.0.0", Path::new("/data"));
        let place = Place { program: None, scheme: "http", host, port: 2379, data, durable: false };
        let flags = arguments(&place).unwrap().join(" ");
        assert!(flags.contains("--experimental-watch-progress-notify-interval=200ms"), "{flags}");
        assert!(!flags.contains("no-fsync"), "{flags}");
    }
}
