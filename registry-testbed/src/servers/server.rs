//! A server: given by its URL, started from a binary, or started in a container.

#[cfg(feature = "docker")]
use super::docker;
use super::error::ServerError;
use super::kind::Kind;
use super::options::ServerOptions;
use super::probe;
use super::process::{Extra, Process};
use super::wire::Wire;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

/// A server that is ready.
pub(super) struct Server {
    /// The URL for a store.
    pub(super) url: String,
    /// `host:port`.
    pub(super) address: String,
    pub(super) wire: Wire,
    backing: Backing,
}

/// The origin of a server, which keeps it running.
#[derive(Debug)]
pub(super) enum Backing {
    /// A running server, given by its URL.
    Url,
    /// A child process.
    Process(Process),
    /// A container, which is removed on drop.
    #[cfg(feature = "docker")]
    Docker { _container: Box<docker::Container> },
}

impl Server {
    /// Finds or starts a server, in the order of the module's documentation.
    pub(super) async fn start(
        kind: &'static Kind,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
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

    /// Connects to a running server.
    async fn given(kind: &Kind, url: String) -> Result<Self, ServerError> {
        let address = address_of(kind, &url)
            .ok_or(ServerError::Url { variable: kind.url_variable, scheme: kind.name })?;
        probe::until_ready(kind, &Wire::Plain, &address, || Ok(()))
            .await
            .map_err(|reason| ServerError::NotReady { server: kind.name, reason })?;
        Ok(Self { url, address, wire: Wire::Plain, backing: Backing::Url })
    }

    /// Starts a child process.
    pub(super) async fn run(
        kind: &'static Kind,
        program: PathBuf,
        extra: Extra,
    ) -> Result<Self, ServerError> {
        let wire = extra.wire.clone();
        let process = Process::start(kind, program, extra).await?;
        Ok(Self::local(kind, process.address(), wire, Backing::Process(process)))
    }

    /// A server that was started here.
    fn local(kind: &Kind, address: String, wire: Wire, backing: Backing) -> Self {
        Self { url: wire.url(kind, &address), address, wire, backing }
    }

    /// Returns whether the server was given by its URL.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.backing, Backing::Url)
    }

    /// Returns the child process, for an operator's actions.
    pub(super) fn process(&mut self) -> Result<&mut Process, ServerError> {
        match &mut self.backing {
            Backing::Process(process) => Ok(process),
            Backing::Url => Err(ServerError::NotSupported { backing: "a URL" }),
            #[cfg(feature = "docker")]
            Backing::Docker { .. } => Err(ServerError::NotSupported { backing: "Docker" }),
        }
    }
}

impl fmt::Debug for Server {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}

/// Returns the first `host:port` of a URL. `None` if it is not the URL of a server of this kind without TLS.
fn address_of(kind: &Kind, url: &str) -> Option<String> {
    let rest = url.strip_prefix(kind.name)?.strip_prefix("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let first = hosts.split(',').next().filter(|host| !host.is_empty())?;
    let has_port = first.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { first.to_owned() } else { format!("{first}:{}", kind.port) })
}

/// The binary that `options` lead to, for servers that must be children of ours.
pub(super) fn program(kind: &Kind, options: &ServerOptions) -> Result<PathBuf, ServerError> {
    find(kind.program, options.path.as_deref())
        .ok_or(ServerError::NoProgram { program: kind.program })
}

/// Returns the first file called `program` in the folders of `path`.
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
    fn the_address_is_the_first_host_of_a_url() {
        let address = |url| address_of(&KIND, url);
        assert_eq!(address("redis://h:1").as_deref(), Some("h:1"));
        assert_eq!(address("redis://me:pw@h:1,i:2/0?prefix=p").as_deref(), Some("h:1"));
        assert_eq!(address("redis://h").as_deref(), Some("h:6379"));
        assert_eq!(address("redis://[::1]/0").as_deref(), Some("[::1]:6379"));
        assert_eq!(address("redis:///0"), None);
        assert_eq!(address("redis+sentinel://h:1/name"), None);
    }
}
