//! A kind of server: how to find, start and probe it.

use super::error::ServerError;
use std::path::Path;

/// A kind of server: how to find, start and probe it.
#[derive(Debug)]
pub(super) struct Kind {
    /// The name for messages, and the scheme of URLs.
    pub(super) name: &'static str,
    /// The name of the binary, on `PATH` and in images.
    pub(super) program: &'static str,
    /// The environment variable with the URL of a running server.
    pub(super) url_variable: &'static str,
    /// The environment variable with the folders of the binary, which replaces `PATH`.
    pub(super) path_variable: &'static str,
    /// The environment variable that replaces `image`.
    pub(super) image_variable: &'static str,
    /// The image of the official release.
    pub(super) image: &'static str,
    /// The default port, also in a container.
    pub(super) port: u16,
    /// Builds the command line for a place.
    pub(super) arguments: fn(&Place<'_>) -> Result<Vec<String>, ServerError>,
    /// The request of the probe. The server closes the connection after its reply.
    pub(super) request: &'static str,
    /// Returns whether the reply to the probe is that of a ready server.
    pub(super) ready: fn(&str) -> bool,
}

/// The place of a server to start.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The binary. `None` in a container.
    pub(super) program: Option<&'a Path>,
    /// `https` if its clients use TLS, or else `http`.
    pub(super) scheme: &'static str,
    /// The address to listen on.
    pub(super) host: &'a str,
    /// The port to listen on.
    pub(super) port: u16,
    /// The folder for its data.
    pub(super) data: &'a Path,
    /// Whether the server must sync each write to disk before it acknowledges it.
    pub(super) durable: bool,
}
