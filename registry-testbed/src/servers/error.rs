//! Errors of the server fixtures.

use std::io;
use std::time::Duration;

/// An error of a server fixture: there is no server, or an action on it failed.
///
/// A test must fail with it. The message of [`Missing`](Self::Missing) says in one line what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No server was found.
    #[error(
        "no {server} server for the tests: run `cargo xtask test`, which installs one on Debian and its \
         derivatives, or put `{program}` on PATH, \
         or set {variable} to the URL of a server that tests may compact, pause and wipe, \
         or enable the feature `docker`"
    )]
    Missing {
        /// The kind of server.
        server: &'static str,
        /// The name of the server's binary.
        program: &'static str,
        /// The environment variable with the URL of a running server.
        variable: &'static str,
    },
    /// The given URL is not that of a server of this kind without TLS.
    #[error("{variable} must be a URL like {scheme}://host:port")]
    Url {
        /// The environment variable with the URL.
        variable: &'static str,
        /// The required scheme.
        scheme: &'static str,
    },
    /// The server is older than the tests need.
    #[error("{server} is too old: found=`{found}`, needed=`{needed}` or newer")]
    TooOld {
        /// The kind of server.
        server: &'static str,
        /// The version that the server reports.
        found: String,
        /// The oldest supported version.
        needed: &'static str,
    },
    /// The server did not become ready: it ended, or did not answer in time.
    #[error("{server} did not become ready: {reason}")]
    NotReady {
        /// The kind of server.
        server: &'static str,
        /// The last probe, and the end of the log of a child process.
        reason: String,
    },
    /// Only a child process can be paused, killed, restarted and wiped. Authentication cannot be enabled on a
    /// server that is given by its URL.
    #[error("a server from {backing} does not support this action: use one from a binary on PATH")]
    NotSupported {
        /// The origin of the server.
        backing: &'static str,
    },
    /// The fixture needs servers that are child processes, and their binary is missing.
    #[error(
        "`{program}` is not on PATH: run `cargo xtask test`, which installs it on Debian and its derivatives"
    )]
    NoProgram {
        /// The name of the server's binary.
        program: &'static str,
    },
    /// An action on the servers did not take effect in time.
    #[error("could not {action} within {within:?}: seen=`{seen}`")]
    NoEffect {
        /// The action.
        action: &'static str,
        /// The timeout.
        within: Duration,
        /// The last state of the servers, or the last error.
        seen: String,
    },
    /// The server was killed and has not been restarted.
    #[error("{server} is not running")]
    NotRunning {
        /// The kind of server.
        server: &'static str,
    },
    /// An action of the operating system failed.
    #[error("could not {action}")]
    Io {
        /// The action.
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// There is no binary, and the container did not start.
    #[cfg(feature = "docker")]
    #[error(
        "no {server} server for the tests: `{program}` is not on PATH, and its container did not start, \
         image=`{image}`: provide the image by `cargo xtask images`"
    )]
    Docker {
        /// The kind of server.
        server: &'static str,
        /// The name of the server's binary.
        program: &'static str,
        /// The image of the container.
        image: String,
        /// The error of the container engine, or of the connection to it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ServerError {
    /// Returns a closure for `map_err` that adds the action to an error of the operating system.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// Returns whether the server ended because another process uses its port.
    pub(super) fn is_address_in_use(&self) -> bool {
        matches!(self, Self::NotReady { reason, .. }
            if reason.to_lowercase().contains("address already in use"))
    }
}
