//! Why the built-in layouts cannot decode a value.

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("value has {0} bytes, more than an address can have")]
    TooLong(usize),
    #[error("value has {0} bytes, more than 65536")]
    TooLarge(usize),
    #[error("value is no text")]
    Binary(#[from] std::str::Utf8Error),
    #[error("value is not of the known form: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("value has the unknown operation {0}")]
    Operation(u8),
    #[error("value has no readable address, address=`{}`", .0.escape_debug())]
    Address(String),
    #[error("an id has no `/`, id=`{}`", .0.escape_debug())]
    Id(String),
}
