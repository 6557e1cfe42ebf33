//! An encoder of HTTP/2 requests in every form that HPACK allows.

use super::super::huffman;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The kinds of HPACK literals, each with its bit pattern and the length of its prefix.
pub(super) const INDEXING: (u8, u32) = (0x40, 6);
pub(super) const FORMS: [(u8, u32); 3] = [INDEXING, (0x00, 4), (0x10, 4)];

/// The name of a literal.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Index(usize),
    Text(Vec<u8>, bool),
}

impl Name {
    /// Returns every encoding of the name `:authority`.
    pub(super) fn of_authority() -> [Self; 3] {
        let text = |huffman| Self::Text(b":authority".to_vec(), huffman);
        [Self::Index(1), text(false), text(true)]
    }
}

pub(super) fn integer(pattern: u8, prefix: u32, value: usize) -> Vec<u8> {
    let max = (1 << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap();
    if value < max {
        return vec![pattern | byte(value)];
    }
    let (mut bytes, mut rest) = (vec![pattern | byte(max)], value - max);
    while rest >= 128 {
        bytes.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

pub(super) fn string(text: &[u8], huffman: bool) -> Vec<u8> {
    let encoded = if huffman { huffman::encode(text) } else { text.to_vec() };
    [integer(u8::from(huffman) << 7, 7, encoded.len()), encoded].concat()
}

pub(super) fn literal(form: (u8, u32), name: &Name, value: &[u8], huffman: bool) -> Vec<u8> {
    let name = match name {
        Name::Index(index) => integer(form.0, form.1, *index),
        Name::Text(text, huffman) => [vec![form.0], string(text, *huffman)].concat(),
    };
    [name, string(value, huffman)].concat()
}

/// Returns the header block of a request: indexed `:method`, `:scheme` and `:path`, followed by `fields`.
pub(super) fn block(fields: &[&[u8]]) -> Vec<u8> {
    [&[0x83, 0x86, 0x84][..], &fields.concat()].concat()
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn headers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
}

/// Returns the bytes of a connection that sends these frames.
pub(super) fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()
}
