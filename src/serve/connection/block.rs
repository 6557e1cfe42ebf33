//! The repair of one header block in HPACK encoding (RFC 7541).

use super::huffman;
use http::uri::Authority;
use std::borrow::Cow;

/// The name of the pseudo-header, and its index in the static table.
const NAME: &[u8] = b":authority";
const INDEX: usize = 1;

/// The maximum length of an encoded integer. h2 has the same limit.
const MAX_INTEGER: usize = 5;

/// Returns the block with each invalid `:authority` repaired. Returns `None` if there is nothing to repair, or if the
/// block is malformed, since the server refuses such a block itself.
///
/// The block may become shorter, never longer. Every string keeps its decoded length, and therefore its size in the
/// dynamic table, so the tables of client and server stay in sync without a table here. For the same reason an empty
/// `:authority` is left as it is, although `http` refuses it.
///
/// An `:authority` whose name is an index into the dynamic table is also left as it is. No encoder needs such an index,
/// since the static table contains the name.
pub(super) fn repair(block: &[u8]) -> Option<Vec<u8>> {
    let mut input = Input { bytes: block, at: 0 };
    let (mut repaired, mut copied) = (Vec::new(), 0);
    while let Some(first) = block.get(input.at) {
        let prefix = match first {
            0x80.. => 7,      // indexed field
            0x40..=0x7f => 6, // literal with incremental indexing
            0x20..=0x3f => 5, // dynamic table size update
            0x00..=0x1f => 4, // literal without indexing, or never indexed
        };
        let index = input.integer(prefix)?;
        if prefix == 7 || prefix == 5 {
            continue;
        }
        let is_authority = if index == 0 { input.string()?.is_name() } else { index == INDEX };
        let start = input.at;
        let value = input.string()?;
        if is_authority && let Some(plain) = plain(&value.text()?) {
            repaired.extend_from_slice(&block[copied..start]);
            value.write_as(plain, &mut repaired);
            copied = input.at;
        }
    }
    (copied > 0).then(|| {
        repaired.extend_from_slice(&block[copied..]);
        repaired
    })
}

/// Returns an authority of the same length that `http` accepts, or `None` if `text` is already valid or is empty.
///
/// Every byte that is not allowed in a registered name, and `%`, becomes `-`. The result is always a valid registered
/// name (RFC 3986, 3.2.2).
fn plain(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || Authority::try_from(text).is_ok() {
        return None;
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    Some(text.iter().map(|byte| if is_plain(*byte) { *byte } else { b'-' }).collect())
}

/// An encoded string.
struct Encoded<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl Encoded<'_> {
    fn text(&self) -> Option<Cow<'_, [u8]>> {
        if self.huffman {
            huffman::decode(self.bytes).map(Cow::Owned)
        } else {
            Some(self.bytes.into())
        }
    }

    fn is_name(&self) -> bool {
        // A longer string is another name in either encoding, so it need not be decoded.
        self.bytes.len() <= NAME.len() && self.text().is_some_and(|text| *text == *NAME)
    }

    /// Writes another text in the same encoding.
    fn write_as(&self, text: Vec<u8>, output: &mut Vec<u8>) {
        let (flag, bytes) = if self.huffman { (0x80, huffman::encode(&text)) } else { (0, text) };
        write_length(bytes.len(), flag, output);
        output.extend_from_slice(&bytes);
    }
}

/// Writes the length of a string: an integer with a 7-bit prefix.
fn write_length(length: usize, flag: u8, output: &mut Vec<u8>) {
    let low = |value: usize| value.to_le_bytes()[0];
    let Some(mut rest) = length.checked_sub(0x7f) else {
        return output.push(flag | low(length));
    };
    output.push(flag | 0x7f);
    while rest >= 0x80 {
        output.push(0x80 | low(rest));
        rest >>= 7;
    }
    output.push(low(rest));
}

/// A block and the position up to which it was read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Reads an integer with a prefix of `prefix` bits.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let max = (1 << prefix) - 1;
        let mut value = usize::from(*self.bytes.get(self.at)?) & max;
        self.at += 1;
        if value < max {
            return Some(value);
        }
        for byte in 0..MAX_INTEGER - 1 {
            let next = usize::from(*self.bytes.get(self.at)?);
            self.at += 1;
            value += (next & 0x7f) << (7 * byte);
            if next < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Encoded<'a>> {
        let huffman = self.bytes.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let bytes = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(Encoded { huffman, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// This guarantees that a repaired string is never longer than the string that it replaces.
    #[test]
    fn no_replaced_byte_has_a_shorter_code_than_its_replacement() {
        let bits = |byte: u8| huffman::encode(&[byte; 8]).len();
        for byte in 0..=u8::MAX {
            if plain(&[byte, b'@']).unwrap()[0] == b'-' {
                assert!(bits(b'-') <= bits(byte), "{byte:#x}");
            } else {
                assert!(Authority::try_from(&[byte][..]).is_ok(), "{byte:#x}");
            }
        }
    }

    #[test]
    fn invalid_authorities_of_go_clients_become_valid_names() {
        for (sent, read) in [
            ("127.0.0.1:2379,localhost:2379", "127.0.0.1-2379,localhost-2379"),
            ("prod%2Fuser.rpc", "prod-2Fuser.rpc"),
            ("[::1]:2379,[::1]:22379", "---1--2379,---1--22379"),
            ("a@", "a-"),
            ("a/b", "a-b"),
        ] {
            assert_eq!(plain(sent.as_bytes()).as_deref(), Some(read.as_bytes()), "{sent}");
        }
        for valid in ["user.rpc", "127.0.0.1:2379", "[::1]:2379", "a,b", "me@host:1", "%41@host"] {
            assert_eq!(plain(valid.as_bytes()), None, "{valid}");
        }
        assert_eq!(plain(b""), None);
    }

    fn authority() -> impl Strategy<Value = Vec<u8>> {
        let anything = prop::collection::vec(any::<u8>(), 0..40);
        let nearly = prop::collection::vec(prop::sample::select(&b"a1.:@[]%,-/?#"[..]), 0..20);
        prop_oneof![anything, nearly]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_authority_except_the_empty_one_becomes_valid_and_keeps_its_length(sent in authority()) {
            let is_valid = Authority::try_from(&sent[..]).is_ok();
            match plain(&sent) {
                None => prop_assert!(is_valid || sent.is_empty()),
                Some(read) => {
                    prop_assert!(!is_valid);
                    prop_assert!(Authority::try_from(&read[..]).is_ok());
                    prop_assert_eq!(read.len(), sent.len());
                    prop_assert!(huffman::encode(&read).len() <= huffman::encode(&sent).len());
                }
            }
        }
    }
}
