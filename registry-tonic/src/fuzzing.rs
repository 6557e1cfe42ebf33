//! Laws about text that anybody may have written. A fuzz target of `fuzz/` calls each with bytes that it makes up, and a
//! test below with those of its corpus. A law panics if it is broken.

#![allow(clippy::missing_panics_doc)]

use crate::ChannelTarget;
use registry_core::{Error, ErrorKind};

#[cfg(test)]
const LAWS: [replay::Law; 1] = [("channel_target", channel_target)];

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

/// A target is refused, or is displayed as one that parses to the same target, but for its password.
pub fn channel_target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let target = match text.parse::<ChannelTarget>() {
        Ok(target) => target,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            return;
        }
    };
    let shown = target.to_string();
    let again =
        shown.parse::<ChannelTarget>().unwrap_or_else(|error: Error| panic!("{shown}: {error}"));
    let ChannelTarget::Service { registry, .. } = &target else {
        return assert_eq!(again, target);
    };
    let Some(password) = registry.password() else { return assert_eq!(again, target) };
    assert_eq!(again.to_string(), shown);
    let password = password.reveal();
    let escaped = format!("{password:?}");
    // Names of types and fields have no digits.
    let is_public = password.len() < 6
        || !password.bytes().any(|byte| byte.is_ascii_digit())
        || format!("{again:?}").contains(&escaped[1..escaped.len() - 1]);
    assert!(is_public || !format!("{shown} {target:?}").contains(password), "{shown}");
}
