//! One server: given, started from a binary, or started in a container.

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

/// A server that answered its probe.
pub(super) struct Server {
    /// Its URL, in the form the stores take.
    pub(super) url: String,
    /// `host:port`.
    pub(super) address: String,
    /// How it is spoken to.
    pub(super) wire: Wire,
    /// What keeps it alive.
    backing: Backing,
}

/// Where a server came from.
#[derive(Debug)]
pub(super) enum Backing {
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
    pub(super) async fn run(
        kind: &'static Kind,
        program: PathBuf,
        extra: Extra,
    ) -> Result<Self, ServerError> {
        let wire = extra.wire.clone();
        let process = Process::start(kind, program, extra).await?;
        Ok(Self::local(kind, process.address(), wire, Backing::Process(process)))
    }

    /// A server this fixture started.
    fn local(kind: &Kind, address: String, wire: Wire, backing: Backing) -> Self {
        Self { url: wire.url(kind, &address), address, wire, backing }
    }

    /// Whether somebody else runs it.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.backing, Backing::Url)
    }

    /// The powers of an operator, which only a child process gives.
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
pub(super) fn program(kind: &Kind, options: &ServerOptions) -> Result<PathBuf, ServerError> {
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
