//! What can go wrong with a test's server.

use std::io;
use std::time::Duration;

/// Why there is no server, or why it did not do what it was told.
///
/// A test fails with it. The message of [`Missing`](Self::Missing) says in one line what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No server was found anywhere.
    #[error(
        "no {server} server for the tests: run `cargo xtask test`, which installs one on Debian-likes, \
         or put `{program}` on PATH, \
         or set {variable} to a server that tests may compact, pause and wipe, \
         or turn on the feature `docker`"
    )]
    Missing {
        /// The kind of server.
        server: &'static str,
        /// Its binary.
        program: &'static str,
        /// The environment variable that names a running one.
        variable: &'static str,
    },
    /// The given URL is not one of a plain connection to this kind of server.
    #[error("{variable} must be a URL like {scheme}://host:port")]
    Url {
        /// The environment variable it usually comes from.
        variable: &'static str,
        /// The scheme it should have.
        scheme: &'static str,
    },
    /// The server is older than what the stores need.
    #[error("{server} is too old: found=`{found}`, needed=`{needed}` or newer")]
    TooOld {
        /// The kind of server.
        server: &'static str,
        /// What it says of itself.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The server is not in working order: it ended, or it did not answer in time.
    #[error("{server} did not become ready: {reason}")]
    NotReady {
        /// The kind of server.
        server: &'static str,
        /// What was seen last, and the end of the log of a server of our own.
        reason: String,
    },
    /// Only a server started from a binary can be paused, killed, restarted and wiped. One that
    /// somebody else runs cannot be given passwords either.
    #[error("a server from {backing} cannot be paused, killed, restarted, wiped or locked")]
    NotSupported {
        /// Where the server came from.
        backing: &'static str,
    },
    /// What was asked for needs servers that are child processes.
    #[error(
        "this needs `{program}` on PATH: run `cargo xtask test`, which installs it on Debian-likes"
    )]
    NoProgram {
        /// The server's binary.
        program: &'static str,
    },
    /// The servers did not do what they were made to.
    #[error("could not {action} within {within:?}: seen=`{seen}`")]
    NoEffect {
        /// What was tried.
        action: &'static str,
        /// How long.
        within: Duration,
        /// What stood in the way, or what the servers said at last.
        seen: String,
    },
    /// The server was killed, or ended by itself, and has not been started again.
    #[error("{server} is not running")]
    NotRunning {
        /// The kind of server.
        server: &'static str,
    },
    /// The operating system refused something.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no binary, and the container engine gave no container either.
    #[cfg(feature = "docker")]
    #[error(
        "no {server} server for the tests: `{program}` is not on PATH, and Docker started none from \
         image=`{image}`: see `cargo xtask images`"
    )]
    Docker {
        /// The kind of server.
        server: &'static str,
        /// Its binary.
        program: &'static str,
        /// The image it was to be started from.
        image: String,
        /// What the engine, or the way to it, said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ServerError {
    /// For `map_err` on what the operating system answers.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// Whether the server ended because its port was taken.
    pub(super) fn is_address_in_use(&self) -> bool {
        matches!(self, Self::NotReady { reason, .. }
            if reason.to_lowercase().contains("address already in use"))
    }
}
