//! Compares the bytes that a client sends with the bytes that a server reads, through an HPACK decoder.

use super::Connection;
use fluke_hpack::Decoder;
use http::uri::Authority;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{self, AsyncRead, ReadBuf};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const MAX_BLOCK: usize = 64 * 1024;

/// The counts of a comparison.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Decoded header blocks.
    pub(super) blocks: usize,
    /// Invalid `:authority` values that were repaired.
    pub(super) repaired: usize,
    /// Invalid `:authority` values that passed, so that the server refuses them.
    pub(super) refused: usize,
}

/// Sends `sent` through a connection and compares it with the bytes read. `lengths` are, in turn, the lengths of the
/// pieces that the socket yields and of the buffers that the server reads into.
///
/// # Panics
///
/// If anything other than an invalid `:authority` differs, or if a repaired one is invalid or has another length.
pub(super) fn check(sent: &[u8], lengths: &[usize]) -> Comparison {
    let read = through(sent, lengths);
    let mut comparison = Comparison::default();
    if let Some(frames) = sent.strip_prefix(PREFACE) {
        let after = read.strip_prefix(PREFACE).expect("the preface passes");
        compare(frames, after, &mut comparison);
    } else {
        assert_eq!(read, sent, "not HTTP/2");
    }
    comparison
}

/// Returns the bytes that a server reads if a client sends `sent`.
pub(super) fn through(sent: &[u8], lengths: &[usize]) -> Vec<u8> {
    let lengths = if lengths.is_empty() { &[usize::MAX] } else { lengths };
    let socket = Socket { sent: sent.to_vec(), at: 0, lengths: lengths.to_vec(), reads: 0 };
    let mut connection = Connection::new(socket);
    let mut read = Vec::new();
    for length in lengths.iter().rev().cycle() {
        let mut space = vec![0; (*length).clamp(1, sent.len() + 1)];
        let mut buf = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        let poll = Pin::new(&mut connection).poll_read(&mut cx, &mut buf);
        assert!(matches!(poll, Poll::Ready(Ok(()))), "{poll:?}");
        if buf.filled().is_empty() {
            break;
        }
        read.extend_from_slice(buf.filled());
    }
    read
}

/// A socket that yields the bytes of `sent` in pieces.
struct Socket {
    sent: Vec<u8>,
    at: usize,
    lengths: Vec<usize>,
    reads: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.lengths[self.reads % self.lengths.len()].max(1);
        let length = length.min(buf.remaining()).min(self.sent.len() - self.at);
        buf.put_slice(&self.sent[self.at..self.at + length]);
        self.at += length;
        self.reads += 1;
        Poll::Ready(Ok(()))
    }
}

fn compare(mut before: &[u8], mut after: &[u8], comparison: &mut Comparison) {
    let (mut sent_fields, mut read_fields) = (Decoder::new(), Decoder::new());
    while let Some(frames) = next(before) {
        let read = next(after).expect("the server reads as many frames");
        assert_eq!(frames.len(), read.len());
        let (mut sent_block, mut read_block) = (Vec::new(), Vec::new());
        for (sent, read) in frames.iter().zip(&read) {
            assert_eq!(sent.head, read.head);
            assert_eq!((sent.prefix, sent.padding), (read.prefix, read.padding));
            assert!(read.fragment.len() <= sent.fragment.len());
            sent_block.extend_from_slice(sent.fragment);
            read_block.extend_from_slice(read.fragment);
        }
        before = &before[frames.iter().map(|frame| frame.length).sum()..];
        after = &after[read.iter().map(|frame| frame.length).sum()..];
        if frames[0].head[0] != 1 {
            assert_eq!(sent_block, read_block);
            continue;
        }
        // The server closes the connection after a malformed block. The decoder panics on some of them.
        if !is_well_formed(&sent_block) {
            assert_eq!(sent_block, read_block, "a malformed block passes as it is");
            return;
        }
        let Ok(sent) = sent_fields.decode(&sent_block) else { return };
        let read = read_fields.decode(&read_block).expect("a repaired block can be decoded");
        comparison.blocks += 1;
        assert_eq!(sent.len(), read.len());
        for ((sent_name, sent), (read_name, read)) in sent.into_iter().zip(read) {
            assert_eq!(sent_name, read_name);
            let is_valid = |value: &[u8]| Authority::try_from(value).is_ok();
            if sent_name != b":authority" || is_valid(&sent) || sent.is_empty() {
                assert_eq!(sent, read, "{sent_name:?}");
            } else if sent == read {
                comparison.refused += 1;
            } else {
                assert!(is_valid(&read), "{read:?}");
                assert_eq!(sent.len(), read.len());
                comparison.repaired += 1;
            }
        }
    }
    // A rest that is longer than `MAX_BLOCK` may follow a block that was too long to be checked.
    if before.len() <= MAX_BLOCK {
        assert_eq!(before, after, "an incomplete or malformed rest passes as it is");
    }
}

/// Returns whether each field of the block is complete.
fn is_well_formed(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let Some((index, mut rest)) = integer(block, prefix) else { return false };
        for _ in 0..usize::from(is_literal) * if index == 0 { 2 } else { 1 } {
            let string = integer(rest, 7);
            let Some(after) = string.and_then(|(length, after)| after.get(length..)) else {
                return false;
            };
            rest = after;
        }
        block = rest;
    }
    true
}

/// Reads an integer of at most five bytes, and returns it with the remaining bytes.
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let max = (1 << prefix) - 1;
    let (first, mut rest) = bytes.split_first()?;
    let mut value = usize::from(*first) & max;
    if value < max {
        return Some((value, rest));
    }
    for shift in [0, 7, 14, 21] {
        let (next, after) = rest.split_first()?;
        value += (usize::from(*next) & 0x7f) << shift;
        rest = after;
        if *next < 0x80 {
            return Some((value, rest));
        }
    }
    None
}

struct Frame<'a> {
    length: usize,
    /// Type, flags and stream.
    head: &'a [u8],
    prefix: &'a [u8],
    fragment: &'a [u8],
    padding: &'a [u8],
}

/// Returns the next frame, or the frames of the next header block. `None` at the end, and if they are incomplete or
/// malformed.
fn next(bytes: &[u8]) -> Option<Vec<Frame<'_>>> {
    let first = frame(bytes)?;
    let (mut end, mut is_complete) = (first.length, first.head[0] != 1 || first.head[1] & 4 != 0);
    let mut frames = vec![first];
    while !is_complete {
        let next = frame(&bytes[end..])?;
        if next.head[0] != 9 || next.head[2..] != frames[0].head[2..] {
            return None;
        }
        is_complete = next.head[1] & 4 != 0;
        end += next.length;
        frames.push(next);
    }
    Some(frames)
}

fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let head = bytes.get(..9)?;
    let length = head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let payload = bytes.get(9..9 + length)?;
    let (mut from, mut to) = (0, payload.len());
    if head[3] == 1 && head[4] & 0x08 != 0 {
        to = to.checked_sub(usize::from(*payload.first()?))?;
        from += 1;
    }
    if head[3] == 1 && head[4] & 0x20 != 0 {
        from += 5;
    }
    Some(Frame {
        length: 9 + length,
        head: &head[3..],
        prefix: payload.get(..from)?,
        fragment: payload.get(from..to)?,
        padding: &payload[to..],
    })
}
