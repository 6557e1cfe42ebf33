//! A kind of server: how it is found, run and recognised.

use super::error::ServerError;
use std::path::Path;

/// What the search, the start and the probe need to know of a kind of server.
#[derive(Debug)]
pub(super) struct Kind {
    /// What people call it, and the scheme of its URLs.
    pub(super) name: &'static str,
    /// Its binary, on `PATH` here and in its images.
    pub(super) program: &'static str,
    /// The environment variable with the URL of a running one.
    pub(super) url_variable: &'static str,
    /// The environment variable with the folders to look for the binary in instead of `PATH`.
    pub(super) path_variable: &'static str,
    /// The environment variable with the image to use instead of `image`.
    pub(super) image_variable: &'static str,
    /// The image of the official release.
    pub(super) image: &'static str,
    /// The port it is usually found at, and listens on in a container.
    pub(super) port: u16,
    /// Its command line for a place.
    pub(super) arguments: fn(&Place<'_>) -> Result<Vec<String>, ServerError>,
    /// A request that one in working order answers and then hangs up.
    pub(super) request: &'static str,
    /// Whether that is the answer of one in working order.
    pub(super) ready: fn(&str) -> bool,
}

/// Where a server is to run.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The binary, unless it is one in a container.
    pub(super) program: Option<&'a Path>,
    /// `http`, or `https` where its clients speak TLS.
    pub(super) scheme: &'static str,
    /// The address to listen on.
    pub(super) host: &'a str,
    /// The port to listen on.
    pub(super) port: u16,
    /// The folder for its data.
    pub(super) data: &'a Path,
    /// Whether a write is to be on disk before it is acknowledged.
    pub(super) durable: bool,
}
