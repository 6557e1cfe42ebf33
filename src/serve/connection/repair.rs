//! The `:authority` repair on the byte stream of one connection, without IO.

use super::block;
use std::ops::Range;

/// The start of an HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame header.
const HEAD: usize = 9;

/// The maximum total length of the frames of a header block. A longer block passes unchanged.
pub(super) const MAX_BLOCK: usize = 64 * 1024;

/// The state of the repair of one connection.
#[derive(Debug)]
pub(super) struct Repair {
    state: State,
}

#[derive(Debug)]
enum State {
    /// In the preface, of which this many bytes have passed.
    Preface(usize),
    /// At the start of a frame.
    Head,
    /// Within a frame, with this many bytes left to pass.
    Frame(usize),
    /// Within a header block, with this many bytes of complete frames.
    Block(usize),
    /// Not HTTP/2, or malformed: everything passes unchanged.
    Other,
}

/// How a buffer is divided after the repair.
#[derive(Debug, PartialEq)]
pub(super) struct Division {
    /// The number of bytes at the front that are ready for the server.
    pub(super) ready: usize,
    /// The number of bytes at the end that are incomplete. The caller must pass them again together with more bytes.
    pub(super) rest: usize,
}

impl Repair {
    pub(super) fn new() -> Self {
        Self { state: State::Preface(0) }
    }

    /// Returns whether a preface has begun and is not complete.
    pub(super) fn is_in_preface(&self) -> bool {
        matches!(self.state, State::Preface(1..))
    }

    /// Repairs the next bytes in place.
    pub(super) fn repair(&mut self, bytes: &mut [u8]) -> Division {
        let (mut read, mut ready) = (0, 0);
        while read < bytes.len() {
            let Some((taken, kept)) = self.step(&mut bytes[read..]) else { break };
            if ready < read {
                bytes.copy_within(read..read + kept, ready);
            }
            read += taken;
            ready += kept;
        }
        Division { ready, rest: bytes.len() - read }
    }

    /// Consumes bytes from the front. Returns how many were consumed and how many of them remain after the repair;
    /// `None` if more bytes are needed.
    fn step(&mut self, bytes: &mut [u8]) -> Option<(usize, usize)> {
        let passed = match self.state {
            State::Preface(seen) => {
                let passed = bytes.len().min(PREFACE.len() - seen);
                self.state = if bytes[..passed] != PREFACE[seen..seen + passed] {
                    State::Other
                } else if seen + passed == PREFACE.len() {
                    State::Head
                } else {
                    State::Preface(seen + passed)
                };
                passed
            }
            State::Head => {
                let head = Head::parse(bytes)?;
                self.state = match head.kind {
                    Head::HEADERS => State::Block(0),
                    _ => State::Frame(head.end()),
                };
                0
            }
            State::Frame(length) => {
                let passed = bytes.len().min(length);
                let open = length - passed;
                self.state = if open == 0 { State::Head } else { State::Frame(open) };
                passed
            }
            State::Block(complete) => {
                let head = Head::parse(&bytes[complete..])?;
                let end = complete + head.end();
                if complete > 0 && !head.continues(bytes) {
                    self.state = State::Other; // the server closes the connection
                } else if end > MAX_BLOCK {
                    self.state = State::Frame(end);
                } else if end > bytes.len() {
                    return None;
                } else if !head.has(Head::END_HEADERS) {
                    self.state = State::Block(end);
                } else if let Some(kept) = repair_frames(&mut bytes[..end]) {
                    self.state = State::Head;
                    return Some((end, kept));
                } else {
                    self.state = State::Other;
                }
                0
            }
            State::Other => bytes.len(),
        };
        Some((passed, passed))
    }
}

/// The header of a frame.
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    const HEADERS: u8 = 0x1;
    const CONTINUATION: u8 = 0x9;

    const END_HEADERS: u8 = 0x4;
    const PADDED: u8 = 0x8;
    const PRIORITY: u8 = 0x20;

    /// Parses the header at the start of `frame`; `None` if it is incomplete.
    fn parse(frame: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *frame.first_chunk::<HEAD>()?;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { length, kind, flags, stream })
    }

    /// Returns the length of the whole frame.
    fn end(&self) -> usize {
        HEAD + self.length
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns whether this frame continues the block that begins with the frame `first`.
    fn continues(&self, first: &[u8]) -> bool {
        let same = Self::parse(first).is_some_and(|first| first.stream == self.stream);
        self.kind == Self::CONTINUATION && same
    }
}

/// Repairs a header block within its frames, and returns their new total length; `None` if the padding is malformed.
/// The frames are filled in order up to their old lengths, so only the last ones become shorter.
fn repair_frames(frames: &mut [u8]) -> Option<usize> {
    let (first, end) = fragment(frames, 0)?;
    let repaired = if end == frames.len() {
        block::repair(&frames[first])
    } else {
        block::repair(&joined(frames))
    };
    let Some(block) = repaired else { return Some(frames.len()) };
    let (mut block, mut read, mut write) = (&block[..], 0, 0);
    while let Some((fragment, end)) = fragment(frames, read) {
        let (next, later) = block.split_at(block.len().min(fragment.len()));
        block = later;
        let before = fragment.start - read;
        let after = end - fragment.end;
        let length = before + next.len() + after - HEAD;
        frames.copy_within(read..fragment.start, write);
        frames[write..write + 3].copy_from_slice(&length.to_be_bytes()[size_of::<usize>() - 3..]);
        frames[write + before..][..next.len()].copy_from_slice(next);
        frames.copy_within(fragment.end..end, write + before + next.len());
        read = end;
        write += HEAD + length;
    }
    Some(write)
}

/// Returns the header block of these frames.
fn joined(frames: &[u8]) -> Vec<u8> {
    let (mut block, mut read) = (Vec::with_capacity(frames.len()), 0);
    while let Some((next, end)) = fragment(frames, read) {
        block.extend_from_slice(&frames[next]);
        read = end;
    }
    block
}

/// Returns the range of the header block fragment in the frame at `start`, and the end of the frame. `None` if there is
/// no frame, or if it is shorter than its padding and priority.
fn fragment(frames: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    let head = Head::parse(&frames[start..])?;
    let end = start + head.end();
    let (mut from, mut to) = (start + HEAD, end);
    if head.kind == Head::HEADERS && head.has(Head::PADDED) {
        to = to.checked_sub(usize::from(*frames.get(from)?))?;
        from += 1;
    }
    if head.kind == Head::HEADERS && head.has(Head::PRIORITY) {
        from += 5;
    }
    (from <= to).then_some((from..to, end))
}
