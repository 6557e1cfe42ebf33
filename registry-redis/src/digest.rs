//! Digests of the history.

use std::fmt;
use std::str::FromStr;

/// A digest in the chain of digests. It identifies the history up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

#[cfg(test)]
impl Digest {
    pub(crate) fn new(digest: u64) -> Self {
        Self(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(ParseDigestError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseDigestError)
    }
}

/// The text is not 16 lowercase hexadecimal digits.
#[derive(Debug)]
pub(crate) struct ParseDigestError;
