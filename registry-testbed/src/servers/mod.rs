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
mod folder;
mod forward;
mod probe;
mod process;
mod redis;
mod spawn;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::error::ServerError;
pub use self::etcd::{Etcd, EtcdCluster, EtcdTokens};
pub use self::process::Process;
pub use self::redis::{Redis, RedisCluster, RedisSentinel};
#[cfg(feature = "tls")]
pub use self::tls::{ClientIdentity, ServerTls};

use self::wire::Wire;

/// Where to look for a server, and what to start it with.
///
/// [`Etcd::options`] and [`Redis::options`] read the defaults from the environment; change a field
/// to look elsewhere.
#[derive(Clone)]
pub struct ServerOptions {
    /// A running server to use as it is. It is passed over when `arguments` or `disk` ask for
    /// anything, since it cannot be given them any more.
    pub url: Option<String>,
    /// The folders to look for the server's binary in, written as `PATH` is; `None` looks nowhere.
    pub path: Option<OsString>,
    /// The image to start a container from, `name:tag`. Used with the feature `docker` only.
    pub image: String,
    /// Arguments to add to the defaults of the server's command line; the last of a kind wins.
    pub arguments: Vec<String>,
    /// The folder under which a server of our own makes a folder for its data. With one it has each
    /// write on disk before it acknowledges it. Without, its data is in memory where there is room,
    /// and it syncs nothing if it can do without. A container has no such folder: none is started then.
    pub disk: Option<PathBuf>,
}

impl ServerOptions {
    /// What the environment says of `kind`.
    fn from_env(kind: &Kind) -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: variable(kind.url_variable),
            path: env::var_os(kind.path_variable).or_else(|| env::var_os("PATH")),
            image: variable(kind.image_variable).unwrap_or_else(|| kind.image.to_owned()),
            arguments: Vec::new(),
            disk: None,
        }
    }
}

impl fmt::Debug for ServerOptions {
    /// Leaves out the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("path", &self.path)
            .field("image", &self.image)
            .field("arguments", &self.arguments)
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

/// What the search, the start and the probe need to know of a kind of server.
#[derive(Debug)]
struct Kind {
    /// What people call it, and the scheme of its URLs.
    name: &'static str,
    /// Its binary, on `PATH` here and in its images.
    program: &'static str,
    /// The environment variable with the URL of a running one.
    url_variable: &'static str,
    /// The environment variable with the folders to look for the binary in instead of `PATH`.
    path_variable: &'static str,
    /// The environment variable with the image to use instead of `image`.
    image_variable: &'static str,
    /// The image of the official release.
    image: &'static str,
    /// The port it is usually found at, and listens on in a container.
    port: u16,
    /// Its command line for a place.
    arguments: fn(&Place<'_>) -> Result<Vec<String>, ServerError>,
    /// A request that one in working order answers and then hangs up.
    request: &'static str,
    /// Whether that is the answer of one in working order.
    ready: fn(&str) -> bool,
}

/// Where a server is to run.
#[derive(Debug)]
struct Place<'a> {
    /// The binary, unless it is one in a container.
    program: Option<&'a Path>,
    /// `http`, or `https` where its clients speak TLS.
    scheme: &'static str,
    /// The address to listen on.
    host: &'a str,
    /// The port to listen on.
    port: u16,
    /// The folder for its data.
    data: &'a Path,
    /// Whether a write is to be on disk before it is acknowledged.
    durable: bool,
}

/// What one server is started with beside what its kind says.
#[derive(Clone, Debug, Default)]
struct Extra {
    /// The last of a kind wins.
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// As in [`ServerOptions`].
    disk: Option<PathBuf>,
    /// How it is spoken to.
    wire: Wire,
}

/// A server that answered its probe.
struct Server {
    /// Its URL, in the form the stores take.
    url: String,
    /// `host:port`.
    address: String,
    /// How it is spoken to.
    wire: Wire,
    /// What keeps it alive.
    backing: Backing,
}

/// Where a server came from.
#[derive(Debug)]
enum Backing {
    /// Somebody else runs it.
    Url,
    /// A child process.
    Process(Process),
    /// A container, removed when this is dropped.
    #[cfg(feature = "docker")]
    Docker { _container: Box<docker::Container> },
}

impl Server {
    /// Takes the first server there is, in the order of the module's documentation.
    async fn start(kind: &'static Kind, options: ServerOptions) -> Result<Self, ServerError> {
        if let Some(url) = options.url
            && options.arguments.is_empty()
            && options.disk.is_none()
        {
            return Self::given(kind, url).await;
        }
        if let Some(program) = find(kind.program, options.path.as_deref()) {
            let ServerOptions { arguments, disk, .. } = options;
            let extra = Extra { arguments, disk, ..Extra::default() };
            return Self::run(kind, program, extra).await;
        }
        #[cfg(feature = "docker")]
        if options.disk.is_none() {
            let (container, address) =
                docker::start(kind, &options.image, options.arguments).await?;
            let backing = Backing::Docker { _container: Box::new(container) };
            return Ok(Self::local(kind, address, Wire::Plain, backing));
        }
        Err(ServerError::Missing {
            server: kind.name,
            program: kind.program,
            variable: kind.url_variable,
        })
    }

    /// A server somebody else runs.
    async fn given(kind: &Kind, url: String) -> Result<Self, ServerError> {
        let address = address_of(kind, &url)
            .ok_or(ServerError::Url { variable: kind.url_variable, scheme: kind.name })?;
        probe::until_ready(kind, &Wire::Plain, &address, || Ok(()))
            .await
            .map_err(|reason| ServerError::NotReady { server: kind.name, reason })?;
        Ok(Self { url, address, wire: Wire::Plain, backing: Backing::Url })
    }

    /// A server of our own.
    async fn run(kind: &'static Kind, program: PathBuf, extra: Extra) -> Result<Self, ServerError> {
        let wire = extra.wire.clone();
        let process = Process::start(kind, program, extra).await?;
        Ok(Self::local(kind, process.address(), wire, Backing::Process(process)))
    }

    /// A server this fixture started.
    fn local(kind: &Kind, address: String, wire: Wire, backing: Backing) -> Self {
        Self { url: wire.url(kind, &address), address, wire, backing }
    }

    /// Whether somebody else runs it.
    fn is_given(&self) -> bool {
        matches!(self.backing, Backing::Url)
    }

    /// The powers of an operator, which only a child process gives.
    fn process(&mut self) -> Result<&mut Process, ServerError> {
        match &mut self.backing {
            Backing::Process(process) => Ok(process),
            Backing::Url => Err(ServerError::NotSupported { backing: "a URL" }),
            #[cfg(feature = "docker")]
            Backing::Docker { .. } => Err(ServerError::NotSupported { backing: "Docker" }),
        }
    }
}

impl fmt::Debug for Server {
    /// Leaves out the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}

/// The first `host:port` of a URL, or nothing when it is not a plain URL of this kind of server.
fn address_of(kind: &Kind, url: &str) -> Option<String> {
    let rest = url.strip_prefix(kind.name)?.strip_prefix("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let first = hosts.split(',').next().filter(|host| !host.is_empty())?;
    let has_port = first.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { first.to_owned() } else { format!("{first}:{}", kind.port) })
}

/// The binary that `options` lead to, for servers that must be children of ours.
fn program(kind: &Kind, options: &ServerOptions) -> Result<PathBuf, ServerError> {
    find(kind.program, options.path.as_deref())
        .ok_or(ServerError::NoProgram { program: kind.program })
}

/// The first file called `program` in the folders of `path`.
fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    static KIND: Kind = Kind {
        name: "redis",
        program: "redis-server",
        url_variable: "",
        path_variable: "",
        image_variable: "",
        image: "",
        port: 6379,
        arguments: |_| Ok(Vec::new()),
        request: "",
        ready: |_| true,
    };

    #[test]
    fn an_address_is_the_first_of_a_url() {
        let address = |url| address_of(&KIND, url);
        assert_eq!(address("redis://h:1").as_deref(), Some("h:1"));
        assert_eq!(address("redis://me:pw@h:1,i:2/0?prefix=p").as_deref(), Some("h:1"));
        assert_eq!(address("redis://h").as_deref(), Some("h:6379"));
        assert_eq!(address("redis://[::1]/0").as_deref(), Some("[::1]:6379"));
        assert_eq!(address("redis:///0"), None);
        assert_eq!(address("redis+sentinel://h:1/name"), None);
    }
}
