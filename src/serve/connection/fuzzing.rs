//! The law of what a server reads of HTTP/2. The fuzz target of `fuzz/` calls it with bytes that it makes up, and a test
//! with those of its corpus. It panics if it is broken.

#![allow(clippy::missing_panics_doc)]

use super::check::{PREFACE, check};

#[cfg(test)]
const LAWS: [replay::Law; 1] = [("http2_headers", headers)];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// A server reads what a client sends, but for an invalid `:authority`, however the bytes are cut.
///
/// The bytes are the lengths of what the socket yields and of what the server reads, and frames: each a byte with its stream
/// and type, one with its flags, and one with its length.
pub fn headers(data: &[u8]) {
    let [yields, reads, frames @ ..] = data else { return };
    let (mut sent, mut rest) = (PREFACE.to_vec(), frames);
    while let [kind, flags, length, after @ ..] = rest {
        let (payload, after) = after.split_at(after.len().min(usize::from(*length)));
        sent.extend([0, 0, *length, kind & 0x0f, *flags, 0, 0, 0, kind >> 4]);
        sent.extend(payload);
        rest = after;
    }
    sent.extend(rest);
    check(&sent, &[usize::from(*yields), usize::from(*reads)]);
}
