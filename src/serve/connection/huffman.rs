//! HPACK's Huffman code (RFC 7541, appendix B).

/// The bytes, grouped by the length of their codes in bits. The code is canonical: the codes of one length are
/// consecutive numbers, in this order. The last code of 30 bits marks the end of a string and has no byte.
const BYTES: [&[u8]; 31] = [
    b"",
    b"",
    b"",
    b"",
    b"",
    b"012aceiost",
    b" %-./3456789=A_bdfghlmnpru",
    b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    b"&*,;XZ",
    b"",
    b"!\"()?",
    b"'+|",
    b"#>",
    b"\0$@[]~",
    b"^}",
    b"<`{",
    b"",
    b"",
    b"",
    b"\\\xc3\xd0",
    b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\
      \xe4\xe8\xe9",
    b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\
      \xb7\xbc\xbf\xc5\xe7\xef",
    b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    b"\xc7\xcf\xea\xeb",
    b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\
      \x1d\x1e\x1f\x7f\xdc\xf9",
    b"",
    b"\x0a\x0d\x16",
];

/// The first code of each length.
const FIRST: [usize; BYTES.len()] = {
    let mut first = [0; BYTES.len()];
    let mut length = 1;
    while length < BYTES.len() {
        first[length] = (first[length - 1] + BYTES[length - 1].len()) << 1;
        length += 1;
    }
    first
};

/// Returns the decoded text, or `None` if a code or the padding is invalid.
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(encoded.len() * 8 / 5);
    let (mut code, mut length) = (0, 0); // the bits of the next code so far
    for bit in encoded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        code = code << 1 | usize::from(bit);
        length += 1;
        let place = code.checked_sub(*FIRST.get(length)?)?;
        if let Some(byte) = BYTES[length].get(place) {
            text.push(*byte);
            (code, length) = (0, 0);
        }
    }
    let padding = (1 << length) - 1;
    (length < 8 && code == padding).then_some(text)
}

/// Returns the encoded text, padded with the first bits of the end-of-string code.
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u64, 0); // bits that do not fill a byte yet
    let mut push = |code: usize, length| {
        bits = bits << length | code as u64;
        count += length;
        while count >= 8 {
            count -= 8;
            encoded.push((bits >> count).to_le_bytes()[0]);
        }
        count
    };
    let mut open = 0;
    for byte in text {
        let (code, length) = code(*byte);
        open = push(code, length);
    }
    if open > 0 {
        push((1 << (8 - open)) - 1, 8 - open);
    }
    encoded
}

/// Returns the code of a byte and its length in bits.
fn code(byte: u8) -> (usize, usize) {
    let place = |(length, bytes): (usize, &&[u8])| {
        let place = bytes.iter().position(|one| *one == byte)?;
        Some((FIRST[length] + place, length))
    };
    BYTES.iter().enumerate().find_map(place).unwrap_or_default() // every byte has one
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluke_hpack::Decoder;

    /// Decodes a string with an independent decoder.
    fn decoded_by_fluke_hpack(encoded: &[u8]) -> Vec<u8> {
        let length = u8::try_from(encoded.len()).unwrap();
        let block = [&[0x01, 0x80 | length], encoded].concat();
        Decoder::new().decode(&block).unwrap().remove(0).1
    }

    #[test]
    fn every_encoded_byte_is_decoded_by_an_independent_decoder() {
        for byte in 0..=u8::MAX {
            for text in [vec![byte], vec![byte; 7], vec![byte, b'a', byte, b'0', byte]] {
                let encoded = encode(&text);
                assert_eq!(decoded_by_fluke_hpack(&encoded), text);
                assert_eq!(decode(&encoded), Some(text));
            }
        }
    }

    #[test]
    fn invalid_codes_are_refused() {
        let eos = [0xff; 4]; // the end-of-string code and two more bits
        let two_bytes_of_padding = [b'\x1f', 0xff, 0xff]; // `a` and two bytes of padding
        let zeros_as_padding = [0x18]; // `a` and three zero bits
        for invalid in [&eos[..], &two_bytes_of_padding, &zeros_as_padding, &[0xff]] {
            assert_eq!(decode(invalid), None, "{invalid:x?}");
        }
        assert_eq!(decode(&[0x1f]), Some(b"a".to_vec()));
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
