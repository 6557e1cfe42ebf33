//! JSON as Go's `encoding/json` writes and reads it.

use super::error::DecodeError;
use registry_core::encoding::MAX_RECORD_LEN;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes `value` byte for byte as Go does.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_string(value)
        .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"));
    // The characters that only Go escapes can occur only inside strings.
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped.into_bytes()
}

/// Reads a value of at most [`MAX_RECORD_LEN`] bytes.
pub(super) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, DecodeError> {
    if value.len() > MAX_RECORD_LEN {
        return Err(DecodeError::TooLarge(value.len()));
    }
    // Go also replaces invalid UTF-8.
    Ok(serde_json::from_str(&String::from_utf8_lossy(value))?)
}
