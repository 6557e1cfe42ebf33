//! Where tests look for a server.

use super::kind::Kind;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Where to look for a server, and what to start it with.
///
/// [`Etcd::options`](super::Etcd::options) and [`Redis::options`](super::Redis::options) read the defaults from the environment; change a field
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
