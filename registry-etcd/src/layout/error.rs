//! Why the built-in layouts cannot decode a value.

use registry_core::printable;

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("value has {0} bytes, more than an address can have")]
    TooLong(usize),
    #[error("value has {0} bytes, more than 65536")]
    TooLarge(usize),
    #[error("value is no text")]
    Binary(#[from] std::str::Utf8Error),
    #[error("value is not of the known form: {}", printable(&.0.to_string()))]
    Malformed(#[from] serde_json::Error),
    #[error("value has the unknown operation {0}")]
    Operation(u8),
    #[error("value has no readable address, address=`{}`", printable(.0))]
    Address(String),
    #[error("an id has no `/`, id=`{}`", printable(.0))]
    Id(String),
}
