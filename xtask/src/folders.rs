//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace that xtask was built from.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where builds and what they need are kept.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// What `cargo install` calls the root of the tools that CI uses; the programs are in its `bin`.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}
