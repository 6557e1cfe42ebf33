//! The substitute for TLS without the feature `tls`.

use super::problem::Problem;
use registry_core::{Result, Target};
use tokio::net::TcpStream;

#[derive(Clone)]
pub(super) enum Tls {}

impl Tls {
    pub(super) fn of(_: &Target) -> Option<Self> {
        None
    }

    #[expect(clippy::unused_async, reason = "same signature as with TLS")]
    pub(super) async fn check(&self) -> Result<()> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "same signature as with TLS")]
    pub(super) async fn connect(&self, _: &str, _: TcpStream) -> Result<TcpStream, Problem> {
        match *self {}
    }
}
