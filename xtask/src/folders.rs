//! The folders of the workspace.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the root of the workspace that xtask was built from.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Returns the target folder of cargo.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Returns the `--root` of `cargo install` for the tools of CI. The programs are in its folder `bin`.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}
