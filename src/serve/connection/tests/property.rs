//! Property: an HPACK decoder reads the same fields before and after `:authority` is repaired, except for an invalid
//! `:authority`.

use super::check::check;
use super::encode::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

/// A field and its encoding. Its indexes may exceed the tables: [`Table::index`] maps them to existing entries.
#[derive(Clone, Debug)]
enum Field {
    Indexed(usize),
    Literal { form: usize, name: Name, value: Vec<u8>, huffman: bool },
}

/// A header block: table size updates, fields, and the split into frames.
#[derive(Clone, Debug)]
struct Block {
    table_sizes: Vec<usize>,
    fields: Vec<Field>,
    cuts: Vec<prop::sample::Index>,
    padding: Option<u8>,
    priority: bool,
    /// The length of the DATA frame after the header block.
    data_len: usize,
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let anything = vec(any::<u8>(), 0..60);
    let authority_like = vec(prop::sample::select(&b"az19.:@[]%,-/"[..]), 0..40);
    let long = (100_usize..1500).prop_map(|length| b"%2F".repeat(length));
    prop_oneof![4 => anything, 4 => authority_like, 1 => long]
}

fn name() -> impl Strategy<Value = Name> {
    let text = (vec(b'a'..=b'z', 1..20), any::<bool>())
        .prop_map(|(text, huffman)| Name::Text(text, huffman));
    let authority = prop::sample::select(Name::of_authority().to_vec());
    prop_oneof![authority, (1_usize..=200).prop_map(Name::Index), text]
}

fn field() -> impl Strategy<Value = Field> {
    let literal = (0..FORMS.len(), name(), value(), any::<bool>())
        .prop_map(|(form, name, value, huffman)| Field::Literal { form, name, value, huffman });
    prop_oneof![1 => (1_usize..=200).prop_map(Field::Indexed), 3 => literal]
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let block = (
        vec(0_usize..=4096, 0..2),
        vec(field(), 1..8),
        vec(any::<prop::sample::Index>(), 0..3),
        any::<Option<u8>>(),
        any::<bool>(),
        0_usize..100,
    );
    let block = block.prop_map(|(table_sizes, fields, cuts, padding, priority, data_len)| Block {
        table_sizes,
        fields,
        cuts,
        padding,
        priority,
        data_len,
    });
    vec(block, 0..8)
}

/// An upper bound on the length of a name in the static table.
const MAX_STATIC_NAME_LEN: usize = 30;

/// The entries that are surely in the dynamic table.
struct Table {
    /// For each entry, upper bounds of the length of its name and of its size.
    entries: VecDeque<(usize, usize)>,
    limit: usize,
}

impl Table {
    /// Maps `index` to one that exists.
    fn index(&self, index: usize) -> usize {
        1 + (index - 1) % (61 + self.entries.len())
    }

    /// Returns an upper bound on the length of the name at `index`.
    fn name_len(&self, index: usize) -> usize {
        index.checked_sub(62).map_or(MAX_STATIC_NAME_LEN, |index| self.entries[index].0)
    }

    fn insert(&mut self, name_len: usize, value_len: usize) {
        self.entries.push_front((name_len, name_len + value_len + 32));
        self.resize(self.limit);
    }

    fn resize(&mut self, limit: usize) {
        self.limit = limit;
        while self.entries.iter().map(|(_, size)| size).sum::<usize>() > limit {
            self.entries.pop_back();
        }
    }
}

/// Returns the bytes that a client sends, and how many names are indexes into the dynamic table.
fn encode(blocks: &[Block]) -> (Vec<u8>, usize) {
    let mut table = Table { entries: VecDeque::new(), limit: 4096 };
    let (mut frames, mut dynamic) = (Vec::new(), 0);
    for (stream, block) in (1..).step_by(2).zip(blocks) {
        let mut encoded = Vec::new();
        for size in &block.table_sizes {
            encoded.extend(integer(0x20, 5, *size));
            table.resize(*size);
        }
        for field in &block.fields {
            match field {
                Field::Indexed(index) => encoded.extend(integer(0x80, 7, table.index(*index))),
                Field::Literal { form, name, value, huffman } => {
                    let (name, length) = match name {
                        Name::Index(index) => {
                            let index = table.index(*index);
                            dynamic += usize::from(index > 61);
                            (Name::Index(index), table.name_len(index))
                        }
                        Name::Text(text, _) => (name.clone(), text.len()),
                    };
                    encoded.extend(literal(FORMS[*form], &name, value, *huffman));
                    if FORMS[*form] == INDEXING {
                        table.insert(length, value.len());
                    }
                }
            }
        }
        let mut cuts: Vec<usize> =
            block.cuts.iter().map(|cut| cut.index(encoded.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(encoded.len());
        let mut from = 0;
        for (number, to) in cuts.iter().enumerate() {
            let mut flags = if number + 1 == cuts.len() { END_HEADERS } else { 0 };
            let mut payload = encoded[from..*to].to_vec();
            from = *to;
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            if number == 0 && block.priority {
                flags |= PRIORITY;
                payload.splice(..0, [0x80, 0, 0, 0, 15]);
            }
            if let Some(padding) = block.padding.filter(|_| number == 0) {
                flags |= PADDED;
                payload.insert(0, padding);
                payload.extend(vec![0; padding.into()]);
            }
            frames.push(frame(kind, flags, stream, &payload));
        }
        frames.push(frame(DATA, END_STREAM, stream, &vec![0x41; block.data_len]));
    }
    (connection(&frames), dynamic)
}

/// Frames of any kind with any content.
fn random_frames() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(HEADERS), Just(CONTINUATION), 0_u8..12];
    let frames = vec((kind, any::<u8>(), 0_u32..4, vec(any::<u8>(), 0..50)), 0..8);
    frames.prop_map(|frames| {
        let frames: Vec<_> = frames
            .iter()
            .map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
            .collect();
        connection(&frames)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decoder_reads_the_same_fields_except_for_an_invalid_authority(
        blocks in blocks(),
        lengths in vec(1_usize..400, 0..4),
    ) {
        let (sent, dynamic) = encode(&blocks);
        let comparison = check(&sent, &lengths);
        prop_assert_eq!(comparison.blocks, blocks.len());
        // An invalid `:authority` passes only if its name is an index into the dynamic table, which the repair does
        // not track.
        prop_assert!(comparison.refused == 0 || dynamic > 0);
    }

    /// Changes one byte of random frames and truncates the connection.
    #[test]
    fn corrupt_and_truncated_frames_pass_unchanged_except_for_an_invalid_authority(
        mut sent in random_frames(),
        (position, byte) in any::<(prop::sample::Index, u8)>(),
        end in any::<prop::sample::Index>(),
        lengths in vec(1_usize..40, 0..4),
    ) {
        let at = position.index(sent.len());
        sent[at] = byte;
        sent.truncate(end.index(sent.len() + 1));
        check(&sent, &lengths);
    }

    /// Changes one byte of a valid connection, so that any part of it may be malformed.
    #[test]
    fn a_corrupt_byte_changes_nothing_except_an_invalid_authority(
        blocks in blocks(),
        (position, byte) in any::<(prop::sample::Index, u8)>(),
        lengths in vec(1_usize..400, 0..4),
    ) {
        let (mut sent, _) = encode(&blocks);
        let at = position.index(sent.len());
        sent[at] = byte;
        check(&sent, &lengths);
    }
}
