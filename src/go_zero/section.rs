//! A section of a configuration, and typed access to its fields.

use super::loader::is_literal;
use super::node::{CONFIG, VARIABLE};
use super::value::{Exact, Fields, Number, Value, find};
use super::variables::has_variable;
use super::{invalid, refused};
use crate::{Error, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// A section of a configuration. Its fields are read with go-zero's types.
pub(super) struct Section {
    /// The prefix of a field's name in errors, such as `Etcd.`.
    prefix: &'static str,
    fields: Fields,
    /// Whether a `$` is an ordinary character.
    literal: bool,
}

/// The type of a field that only go-zero uses.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    Integer,
    /// A whole number from 0 to below this limit.
    Below(i64),
    Flag,
    Map,
    List,
    /// A text or a number.
    #[cfg(feature = "grpc")]
    Duration,
}

/// A field that only go-zero uses.
pub(super) struct Other {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it may be `null` in JSON.
    pub(super) nullable: bool,
}

impl Other {
    /// Returns a field that go-zero calls optional.
    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: true }
    }

    /// Returns a field with a default, for which go-zero refuses `null`.
    pub(super) const fn with_default(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false }
    }
}

impl Section {
    /// Reads a whole configuration, including the inherited fields.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let fields = deserializer.deserialize_newtype_struct(CONFIG, Config)?;
        Ok(Self { prefix: "", fields, literal: is_literal() })
    }

    /// Returns the field `name`, if it is present.
    pub(super) fn find(&self, name: &str) -> Result<Option<&Value>> {
        find(&self.fields, name).map_err(|_| {
            self.wrong(name, "is stated twice in different case: go-zero would use either one")
        })
    }

    /// Returns the field `name`, if it is present. As in go-zero, a `null` in JSON counts as missing.
    fn optional(&self, name: &str) -> Result<Option<&Value>> {
        Ok(self.find(name)?.filter(|value| !matches!(value, Value::Null)))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        self.optional(name)?.map(|value| self.text_of(name, value)).transpose()
    }

    fn text_of<'v>(&self, name: &str, value: &'v Value) -> Result<&'v str> {
        match value {
            Value::Blank => Ok(""),
            Value::Text(text) => self.checked(name, text),
            _ => Err(self.wrong(name, "is not a text: put it in quotes")),
        }
    }

    /// Returns the text, unless it is empty: for go-zero an empty field is not set.
    pub(super) fn stated(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.optional(name)? else { return Ok(None) };
        let integer = match value {
            Value::Number(Number { exact: Exact::Integer(integer), .. }) => {
                i64::try_from(*integer).ok()
            }
            _ => None,
        };
        integer.map(Some).ok_or_else(|| self.wrong(name, "is not a whole number without quotes"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.optional(name)? {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "is not `true` or `false` without quotes")),
        }
    }

    /// Returns a list of texts. A text that contains such a list in JSON is accepted too: a variable may expand to one.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let parsed;
        let list = match self.optional(name)? {
            None => return Ok(None),
            Some(Value::List(list)) => list,
            Some(Value::Text(text)) => {
                parsed = serde_json::from_str::<Vec<Value>>(self.checked(name, text)?);
                parsed.as_ref().map_err(|_| self.wrong(name, "is not a list"))?
            }
            Some(_) => return Err(self.wrong(name, "is not a list")),
        };
        let texts = list.iter().map(|value| match value {
            Value::Text(text) => self.checked(name, text).map(str::to_owned),
            Value::Number(number) => Ok(number.to_text()),
            Value::Blank | Value::Null => Ok(String::new()),
            Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                Err(self.wrong(name, "is not a list of texts"))
            }
        });
        texts.collect::<Result<_>>().map(Some)
    }

    /// Returns the map `name` as a section.
    pub(super) fn section(&self, name: &str, prefix: &'static str) -> Result<Option<Self>> {
        match self.optional(name)? {
            None => Ok(None),
            Some(Value::Map(fields)) => {
                Ok(Some(Self { prefix, fields: fields.clone(), literal: self.literal }))
            }
            Some(_) => Err(self.wrong(name, "is not a map of fields: fill it in, or leave it out")),
        }
    }

    /// Returns the names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Returns all fields, each of which must be a text. Their names are case-sensitive.
    pub(super) fn all_texts(&self) -> Result<BTreeMap<String, String>> {
        let texts = self
            .fields
            .iter()
            .map(|(name, value)| Ok((name.clone(), self.text_of(name, value)?.to_owned())));
        texts.collect()
    }

    /// Checks the types of fields that only go-zero uses, so that a file that go-zero refuses is refused here too.
    pub(super) fn check(&self, others: &[Other]) -> Result<()> {
        for Other { name, kind, nullable } in others {
            let value = match self.find(name)? {
                None => continue,
                Some(Value::Null) if *nullable => continue,
                Some(value) => value,
            };
            let (fits, what) = match kind {
                Kind::Text => (matches!(value, Value::Text(_) | Value::Blank), "a text".to_owned()),
                Kind::OneOf(texts) => {
                    let fits = matches!(value, Value::Text(text) if texts.contains(&text.as_str()));
                    (fits, format!("one of `{}`", texts.join("`, `")))
                }
                Kind::Integer => (self.integer(name)?.is_some(), "a whole number".to_owned()),
                Kind::Below(end) => {
                    let fits =
                        self.integer(name)?.is_some_and(|integer| (0..*end).contains(&integer));
                    (fits, format!("a whole number from 0 to {}", end - 1))
                }
                Kind::Flag => (matches!(value, Value::Bool(_)), "`true` or `false`".to_owned()),
                Kind::Map => (matches!(value, Value::Map(_)), "a map of fields".to_owned()),
                Kind::List => (matches!(value, Value::List(_)), "a list".to_owned()),
                #[cfg(feature = "grpc")]
                Kind::Duration => {
                    let fits = matches!(value, Value::Text(_) | Value::Number(_));
                    (fits, "a duration, such as `5s`".to_owned())
                }
            };
            if !fits {
                return Err(self.wrong(name, &format!("is not {what}")));
            }
        }
        Ok(())
    }

    pub(super) fn wrong(&self, name: &str, what: &str) -> Error {
        invalid(format!("`{}{name}` {what}", self.prefix))
    }

    /// Returns the error for a field whose value was refused with `error`.
    pub(super) fn refused(&self, name: &str, error: Error) -> Error {
        refused(&format!("{}{name}", self.prefix), error)
    }

    fn checked<'t>(&self, name: &str, text: &'t str) -> Result<&'t str> {
        if self.literal || !has_variable(text) {
            return Ok(text);
        }
        Err(self.wrong(name, &format!("cannot be used: {VARIABLE}")))
    }
}

struct Config;

impl<'de> Visitor<'de> for Config {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of fields")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Fields, D::Error> {
        inner.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
        match Value::deserialize(MapAccessDeserializer::new(map))? {
            Value::Map(fields) => Ok(fields),
            _ => Ok(Fields::new()),
        }
    }
}
