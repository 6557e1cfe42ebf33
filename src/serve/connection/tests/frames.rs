//! Tests of every encoding of a header, and of every way to split it into frames.

use super::check::{Comparison, check, through};
use super::encode::*;

/// The `:authority` of a Go client with two etcd hosts, and the repaired value that the server reads.
const SENT: &[u8] = b"127.0.0.1:2379,localhost:2379";
const READ: &[u8] = b"127.0.0.1-2379,localhost-2379";

fn sent_literal(huffman: bool) -> Vec<u8> {
    literal(INDEXING, &Name::Index(1), SENT, huffman)
}

fn read_literal(huffman: bool) -> Vec<u8> {
    literal(INDEXING, &Name::Index(1), READ, huffman)
}

#[test]
fn an_invalid_authority_is_repaired_in_every_form_of_a_literal() {
    for form in FORMS {
        for name in Name::of_authority() {
            for huffman in [false, true] {
                let request = |value| {
                    let user_agent = literal(INDEXING, &Name::Index(58), b"grpc-go/1.80.0", true);
                    connection(&[headers(&block(&[
                        &literal(form, &name, value, huffman),
                        &user_agent,
                    ]))])
                };
                assert_eq!(through(&request(SENT), &[]), request(READ), "{form:?}, {name:?}");
                assert_eq!(check(&request(SENT), &[]).repaired, 1);
            }
        }
    }
}

#[test]
fn a_valid_authority_passes_byte_for_byte() {
    for value in ["user.rpc", "127.0.0.1:2379", "[::1]:2379", "h1,h2", ""] {
        for form in FORMS {
            for name in Name::of_authority() {
                for huffman in [false, true] {
                    let field = literal(form, &name, value.as_bytes(), huffman);
                    let sent = connection(&[headers(&block(&[&field]))]);
                    assert_eq!(through(&sent, &[]), sent, "{value}");
                }
            }
        }
    }
}

#[test]
fn other_headers_are_not_changed() {
    let path = literal(INDEXING, &Name::Index(4), SENT, true);
    let named = literal(INDEXING, &Name::Text(b"authority".to_vec(), true), SENT, false);
    let resized = [integer(0x20, 5, 0), integer(0x20, 5, 4096), block(&[&path, &named])].concat();
    let sent = connection(&[headers(&resized)]);
    assert_eq!(through(&sent, &[]), sent);
    assert_eq!(check(&sent, &[]), Comparison { blocks: 1, ..Comparison::default() });
}

/// grpc-go sends the literal once on a connection, and an index in all later requests.
#[test]
fn an_index_of_a_repaired_authority_decodes_to_the_repaired_value() {
    let first = headers(&block(&[&sent_literal(true)]));
    let later = |stream| frame(HEADERS, END_HEADERS, stream, &block(&[&integer(0x80, 7, 62)]));
    let trailers = frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        3,
        &literal(FORMS[1], &Name::Index(28), b"0", true),
    );
    let sent = connection(&[first, later(3), trailers, later(5)]);
    let expected = Comparison { blocks: 4, repaired: 3, refused: 0 };
    assert_eq!(check(&sent, &[]), expected);
}

/// No known encoder sends such a name, since the static table contains it.
#[test]
fn an_authority_with_a_name_from_the_dynamic_table_is_not_repaired() {
    let named = literal(INDEXING, &Name::Text(b":authority".to_vec(), false), b"user.rpc", false);
    let by_index = literal(INDEXING, &Name::Index(62), SENT, true);
    let sent = connection(&[headers(&block(&[&named])), headers(&block(&[&by_index]))]);
    assert_eq!(check(&sent, &[]), Comparison { blocks: 2, repaired: 0, refused: 1 });
}

#[test]
fn a_long_authority_is_repaired_even_if_its_encoded_length_becomes_shorter() {
    for length in [100, 126, 127, 128, 130, 200, 254, 255, 300, 5000] {
        for huffman in [false, true] {
            let text = b"%:".repeat(length / 2);
            let literal = literal(INDEXING, &Name::Index(1), &text, huffman);
            let sent = connection(&[headers(&block(&[&literal])), frame(DATA, 0, 1, b"x")]);
            assert_eq!(check(&sent, &[]).repaired, 1, "{length}");
        }
    }
}

#[test]
fn padding_and_priority_are_preserved() {
    for flags in [PADDED, PRIORITY, PADDED | PRIORITY] {
        let request = |literal: &[u8]| {
            let length: &[u8] = if flags & PADDED == 0 { b"" } else { &[7] };
            let priority: &[u8] = if flags & PRIORITY == 0 { b"" } else { &[0, 0, 0, 0, 15] };
            let padding = vec![0; length.first().copied().unwrap_or(0).into()];
            let payload = [length, priority, &block(&[literal]), &padding].concat();
            let data = frame(DATA, END_STREAM, 1, b"a message");
            connection(&[frame(HEADERS, flags | END_HEADERS, 1, &payload), data])
        };
        for huffman in [false, true] {
            let read = through(&request(&sent_literal(huffman)), &[]);
            assert_eq!(read, request(&read_literal(huffman)));
        }
    }
}

/// Cuts a block into HEADERS and two CONTINUATIONs.
fn cut(block: &[u8], first: usize, second: usize) -> Vec<Vec<u8>> {
    vec![
        frame(HEADERS, END_STREAM, 1, &block[..first]),
        frame(CONTINUATION, 0, 1, &block[first..second]),
        frame(CONTINUATION, END_HEADERS, 1, &block[second..]),
    ]
}

#[test]
fn a_literal_is_repaired_wherever_frames_split_it() {
    for huffman in [false, true] {
        let sent_block = block(&[&sent_literal(huffman), &integer(0x80, 7, 62)]);
        let read_block = block(&[&read_literal(huffman), &integer(0x80, 7, 62)]);
        for second in 0..=sent_block.len() {
            for first in 0..=second {
                let read = through(&connection(&cut(&sent_block, first, second)), &[]);
                let ends = [first, second].map(|end| end.min(read_block.len()));
                assert_eq!(read, connection(&cut(&read_block, ends[0], ends[1])));
            }
        }
    }
}

#[test]
fn the_result_does_not_depend_on_how_the_bytes_arrive() {
    let sent_block = block(&[
        &sent_literal(true),
        &literal(INDEXING, &Name::Index(31), b"application/grpc", true),
    ]);
    let padded = [&[3][..], &block(&[&sent_literal(false)]), &[0; 3]].concat();
    let sent = connection(&[
        cut(&sent_block, 9, 20).concat(),
        frame(DATA, 0, 1, &[7; 40]),
        frame(HEADERS, END_HEADERS | PADDED, 3, &padded),
        frame(DATA, END_STREAM, 3, &[]),
    ]);
    let at_once = through(&sent, &[]);
    assert_ne!(at_once, sent);
    for first in 1..sent.len() {
        assert_eq!(through(&sent, &[first, usize::MAX]), at_once, "{first}");
    }
    for length in 1..50 {
        assert_eq!(through(&sent, &[length]), at_once, "{length}");
    }
}

#[test]
fn other_protocols_pass_unchanged() {
    let request = b"POST /orders HTTP/1.1\r\nhost: %:%\r\n\r\n".to_vec();
    let almost = [&PREFACE[..23], &connection(&[headers(&block(&[&sent_literal(true)]))])].concat();
    let tls = b"\x16\x03\x01\x02\x00".to_vec();
    for sent in [request, b"P".to_vec(), b"PRI * HTTP/1.1\r\n\r\n".to_vec(), almost, tls, vec![]] {
        for lengths in [&[][..], &[1], &[5, 24]] {
            assert_eq!(through(&sent, lengths), sent);
        }
    }
}

#[test]
fn a_malformed_block_passes_unchanged() {
    let field = sent_literal(true);
    let bad_huffman = [&[0x41, 0x82][..], &[0xff, 0xff]].concat();
    for malformed in [
        block(&[&field, &[0x40]]),                                  // no name
        block(&[&field, &[0x41]]),                                  // no value
        block(&[&field, &[0x41, 0x05, b'%']]),                      // a truncated value
        block(&[&field, &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 1]]), // a length of six bytes
        block(&[&field, &[0xff, 0x80, 0x80, 0x80, 0x80, 0]]),       // an index of six bytes
        block(&[&field, &[0x3f]]),                                  // a truncated table size
        block(&[&field, &bad_huffman]),
    ] {
        let sent = connection(&[headers(&malformed)]);
        assert_eq!(through(&sent, &[]), sent, "{malformed:x?}");
    }
}

#[test]
fn malformed_frames_pass_unchanged() {
    let request = headers(&block(&[&sent_literal(true)]));
    let begin = frame(HEADERS, 0, 1, &block(&[&sent_literal(true)]));
    for malformed in [
        frame(HEADERS, END_HEADERS | PADDED, 1, &[]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x83]),
        frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4]),
        [begin.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
        [begin.clone(), frame(DATA, 0, 1, &[])].concat(),
        [begin, request.clone()].concat(),
    ] {
        let sent = connection(&[malformed, request.clone()]);
        for lengths in [&[][..], &[1]] {
            assert_eq!(through(&sent, lengths), sent);
            check(&sent, lengths);
        }
    }
}

#[test]
fn a_stream_that_ends_within_a_frame_passes_unchanged() {
    let whole = connection(&[headers(&block(&[&sent_literal(true)]))]);
    for length in 0..whole.len() {
        for lengths in [&[][..], &[1]] {
            assert_eq!(through(&whole[..length], lengths), whole[..length]);
        }
    }
}
