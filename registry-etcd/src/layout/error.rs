//! Decode errors of the built-in layouts.

use registry_core::printable;

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("value has {0} bytes, more than the longest address")]
    TooLong(usize),
    #[error("value has {0} bytes, above the limit of 65536")]
    TooLarge(usize),
    #[error("value is not UTF-8 text")]
    Binary(#[from] std::str::Utf8Error),
    #[error("value does not match the format: {}", printable(&.0.to_string()))]
    Malformed(#[from] serde_json::Error),
    #[error("value has the unknown operation {0}")]
    Operation(u8),
    #[error("value has no valid address, address=`{}`", printable(.0))]
    Address(String),
    #[error("the id contains a `/`, id=`{}`", printable(.0))]
    Id(String),
}
