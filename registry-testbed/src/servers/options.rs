//! Options to find or start a server.

use super::kind::Kind;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Options to find or start a server.
///
/// [`Etcd::options`](super::Etcd::options) and [`Redis::options`](super::Redis::options) read the defaults from the
/// environment.
#[derive(Clone)]
pub struct ServerOptions {
    /// The URL of a running server. It is ignored if `arguments` or `disk` are set, since they cannot be
    /// applied to a running server.
    pub url: Option<String>,
    /// The folders with the server's binary, in the format of `PATH`. `None` finds no binary.
    pub path: Option<OsString>,
    /// The image of a container, as `name:tag`. Used only with the feature `docker`.
    pub image: String,
    /// Arguments to append to the server's command line. The last argument of a kind wins.
    pub arguments: Vec<String>,
    /// The folder in which a child process creates its data folder. If set, the server syncs each write to
    /// disk before it acknowledges it. Otherwise its data is in memory if there is enough, and it does not
    /// sync if that can be disabled. A container does not support this: none is started.
    pub disk: Option<PathBuf>,
}

impl ServerOptions {
    /// Reads the options for `kind` from the environment.
    pub(super) fn from_env(kind: &Kind) -> Self {
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
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("path", &self.path)
            .field("image", &self.image)
            .field("arguments", &self.arguments)
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}
