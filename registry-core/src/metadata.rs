//! The metadata of an instance in canonical JSON.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

/// Metadata in canonical JSON. The map is built on first use: a map of one entry takes over 500 bytes, and most holders
/// of an instance never read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    /// An object with sorted keys and without spaces; empty if there are no entries.
    json: Box<str>,
    map: OnceLock<BTreeMap<String, String>>,
}

impl Metadata {
    pub(crate) fn new(map: &BTreeMap<String, String>) -> Self {
        if map.is_empty() {
            return Self::default();
        }
        let json = serde_json::to_string(map)
            .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"));
        Self::of(json)
    }

    fn of(json: String) -> Self {
        Self { json: json.into(), map: OnceLock::new() }
    }

    /// Returns the length of the JSON form.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }

    /// Returns whether an entry has an empty name. Keys are sorted, so it would be the first.
    pub(crate) fn has_empty_key(&self) -> bool {
        self.json.starts_with("{\"\":")
    }

    /// Returns the JSON form: an object.
    pub(crate) fn json(&self) -> &str {
        if self.json.is_empty() { "{}" } else { &self.json }
    }

    #[cfg(test)]
    pub(crate) fn has_map(&self) -> bool {
        self.map.get().is_some()
    }

    pub(crate) fn map(&self) -> &BTreeMap<String, String> {
        static EMPTY: BTreeMap<String, String> = BTreeMap::new();
        if self.json.is_empty() {
            return &EMPTY;
        }
        self.map.get_or_init(|| {
            serde_json::from_str(&self.json)
                .unwrap_or_else(|error| unreachable!("canonical JSON parses: {error}"))
        })
    }
}

/// Compares the canonical JSON, whether or not the map was built.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Metadata {}

/// Deserializes from JSON only. Sorted entries without escapes are copied into the canonical form without building a
/// map.
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Metadata, A::Error> {
        let (mut json, mut last) = (String::new(), None);
        while let Some((JsonStr(key), JsonStr(value))) = entries.next_entry()? {
            match (key, value) {
                // A string is borrowed only if it has no escapes, so it needs none in the canonical form either.
                (Cow::Borrowed(key), Cow::Borrowed(value))
                    if last.is_none_or(|last| last < key) =>
                {
                    if last.is_none() {
                        json.reserve(128); // most metadata is smaller
                    }
                    json.push(if last.is_none() { '{' } else { ',' });
                    for part in ["\"", key, "\":\"", value, "\""] {
                        json.push_str(part);
                    }
                    last = Some(key);
                }
                (key, value) => {
                    let before = last.map(|_| Metadata::of(json + "}"));
                    let mut map = before.map(|before| before.map().clone()).unwrap_or_default();
                    map.insert(key.into_owned(), value.into_owned());
                    while let Some((key, value)) = entries.next_entry()? {
                        map.insert(key, value);
                    }
                    return Ok(Metadata::new(&map));
                }
            }
        }
        Ok(last.map(|_| Metadata::of(json + "}")).unwrap_or_default())
    }
}

/// A JSON string, borrowed unless it has escapes.
pub(crate) struct JsonStr<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for JsonStr<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = JsonStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<JsonStr<'de>, E> {
                Ok(JsonStr(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<JsonStr<'de>, E> {
                Ok(JsonStr(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn read(json: &str) -> Metadata {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn metadata_in_another_form_is_normalized() {
        let cases = [
            ("{}", ""),
            (r#"{ "a" : "1" , "b" : "2" }"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"a":"1","a":"2"}"#, r#"{"a":"2"}"#),
            (r#"{"a":"1","\u0062":"\/","c":"3"}"#, r#"{"a":"1","b":"/","c":"3"}"#),
            (r#"{"a":"\"","b":"\u007f"}"#, "{\"a\":\"\\\"\",\"b\":\"\u{7f}\"}"),
        ];
        for (written, form) in cases {
            assert_eq!(&*read(written).json, form, "{written}");
        }
        assert!(serde_json::from_str::<Metadata>(r#"{"a":1}"#).is_err());
        assert!(serde_json::from_str::<Metadata>("[]").is_err());
    }

    proptest! {
        #[test]
        fn metadata_decodes_like_a_map(map in btree_map(any::<String>(), any::<String>(), 0..6)) {
            let metadata = read(&serde_json::to_string(&map).unwrap());
            prop_assert_eq!(&metadata, &Metadata::new(&map));
            prop_assert_eq!(metadata.map(), &map);
        }

        #[test]
        fn order_and_repetition_of_entries_make_no_difference(entries in vec(("[a-c\"]", ".{0,2}"), 0..6)) {
            let text = |text: &str| serde_json::to_string(text).unwrap();
            let written = entries.iter().map(|(k, v)| format!("{}:{}", text(k), text(v)));
            let written = format!("{{{}}}", written.collect::<Vec<_>>().join(","));
            let map: BTreeMap<String, String> = entries.into_iter().collect();
            prop_assert_eq!(read(&written), Metadata::new(&map));
        }
    }
}
