//! The endpoint type.

use std::fmt;

/// The address of a member.
pub(crate) struct Endpoint {
    /// `host:port`
    pub(crate) authority: String,
    /// `http://host:port` or `https://host:port`
    pub(crate) url: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.authority, f)
    }
}
