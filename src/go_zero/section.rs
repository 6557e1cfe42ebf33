//! A section of a configuration, and typed access to its fields.

use super::loader::is_literal;
use super::node::{CONFIG, VARIABLE_ADVICE};
use super::value::{Exact, Fields, Number, Value, find};
use super::variables::has_variable;
use super::{invalid, refused};
use crate::{Error, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// A section of a configuration. Converts fields by go-zero's type rules.
pub(super) struct Section {
    /// The prefix of a field's name in errors, such as `Etcd.`.
    prefix: &'static str,
    fields: Fields,
    /// Whether a `$` is an ordinary character.
    dollar_is_literal: bool,
}

/// The type of a field that this library does not use.
#[derive(Clone, Copy)]
pub(super) enum FieldKind {
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    Integer,
    /// A whole number from 0 to the limit, exclusive.
    Below(i64),
    Flag,
    Map,
    List,
    /// A duration; only checked to be a string or a number.
    #[cfg(feature = "grpc")]
    Duration,
}

/// A field that this library does not use.
pub(super) struct UnusedField {
    pub(super) name: &'static str,
    pub(super) kind: FieldKind,
    /// Whether it may be `null` in JSON.
    pub(super) nullable: bool,
}

impl UnusedField {
    /// Returns a field that go-zero declares optional.
    pub(super) const fn optional(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind, nullable: true }
    }

    /// Returns a field with a default, for which go-zero refuses `null`.
    pub(super) const fn with_default(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind, nullable: false }
    }
}

impl Section {
    /// Reads a whole configuration, including the fields of `Etcd` that it inherits from the configurations around it.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let fields = deserializer.deserialize_newtype_struct(CONFIG, ConfigVisitor)?;
        Ok(Self { prefix: "", fields, dollar_is_literal: is_literal() })
    }

    /// Returns the field `name`, ignoring case, if it is present. The value may be `null`.
    pub(super) fn find(&self, name: &str) -> Result<Option<&Value>> {
        find(&self.fields, name).map_err(|_| {
            self.field_error(name, "is given twice, in different case: go-zero could use either")
        })
    }

    /// Returns the field `name`, unless it is missing or `null` in JSON. go-zero treats both alike.
    fn find_non_null(&self, name: &str) -> Result<Option<&Value>> {
        Ok(self.find(name)?.filter(|value| !matches!(value, Value::Null)))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        self.find_non_null(name)?.map(|value| self.text_of(name, value)).transpose()
    }

    fn text_of<'v>(&self, name: &str, value: &'v Value) -> Result<&'v str> {
        match value {
            Value::Blank => Ok(""),
            Value::Text(text) => self.reject_variable(name, text),
            _ => Err(self.field_error(name, "is not a string: put it in quotes")),
        }
    }

    /// Returns the text, unless it is empty: go-zero treats an empty field as not set.
    pub(super) fn non_empty_text(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| self.field_error(name, "is missing"))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.find_non_null(name)? else { return Ok(None) };
        let integer = match value {
            Value::Number(Number { exact: Exact::Integer(integer), .. }) => {
                i64::try_from(*integer).ok()
            }
            _ => None,
        };
        integer.map(Some).ok_or_else(|| {
            self.field_error(name, "must be a whole number of 64 bits, without quotes")
        })
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.find_non_null(name)? {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.field_error(name, "must be `true` or `false`, without quotes")),
        }
    }

    /// Returns a list of strings. Numbers in it are converted, and blank or `null` entries become the empty string. A
    /// string that contains a JSON list is accepted too, since a variable may expand to such a string.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let parsed;
        let list = match self.find_non_null(name)? {
            None => return Ok(None),
            Some(Value::List(list)) => list,
            Some(Value::Text(text)) => {
                parsed = serde_json::from_str::<Vec<Value>>(self.reject_variable(name, text)?);
                parsed.as_ref().map_err(|_| self.field_error(name, "is not a list"))?
            }
            Some(_) => return Err(self.field_error(name, "is not a list")),
        };
        let texts = list.iter().map(|value| match value {
            Value::Text(text) => self.reject_variable(name, text).map(str::to_owned),
            Value::Number(number) => Ok(number.to_text()),
            Value::Blank | Value::Null => Ok(String::new()),
            Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                Err(self.field_error(name, "is not a list of strings or numbers"))
            }
        });
        texts.collect::<Result<_>>().map(Some)
    }

    /// Returns the map `name` as a section.
    pub(super) fn section(&self, name: &str, prefix: &'static str) -> Result<Option<Self>> {
        match self.find_non_null(name)? {
            None => Ok(None),
            Some(Value::Map(fields)) => Ok(Some(Self {
                prefix,
                fields: fields.clone(),
                dollar_is_literal: self.dollar_is_literal,
            })),
            Some(_) => {
                Err(self.field_error(name, "is not a map of fields: fill it in, or leave it out"))
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Returns all fields, each of which must be a string. Their names are case-sensitive.
    pub(super) fn all_texts(&self) -> Result<BTreeMap<String, String>> {
        let texts = self
            .fields
            .iter()
            .map(|(name, value)| Ok((name.clone(), self.text_of(name, value)?.to_owned())));
        texts.collect()
    }

    /// Checks the types of fields that this library does not use, so that it refuses a file that go-zero refuses.
    pub(super) fn check(&self, unused: &[UnusedField]) -> Result<()> {
        for UnusedField { name, kind, nullable } in unused {
            let value = match self.find(name)? {
                None => continue,
                Some(Value::Null) if *nullable => continue,
                Some(value) => value,
            };
            let (fits, what) = match kind {
                FieldKind::Text => {
                    (matches!(value, Value::Text(_) | Value::Blank), "a string".to_owned())
                }
                FieldKind::OneOf(texts) => {
                    let fits = matches!(value, Value::Text(text) if texts.contains(&text.as_str()));
                    (fits, format!("one of `{}`", texts.join("`, `")))
                }
                FieldKind::Integer => (self.integer(name)?.is_some(), "a whole number".to_owned()),
                FieldKind::Below(end) => {
                    let fits =
                        self.integer(name)?.is_some_and(|integer| (0..*end).contains(&integer));
                    (fits, format!("a whole number from 0 to {}", end - 1))
                }
                FieldKind::Flag => {
                    (matches!(value, Value::Bool(_)), "`true` or `false`".to_owned())
                }
                FieldKind::Map => (matches!(value, Value::Map(_)), "a map of fields".to_owned()),
                FieldKind::List => (matches!(value, Value::List(_)), "a list".to_owned()),
                #[cfg(feature = "grpc")]
                FieldKind::Duration => {
                    let fits = matches!(value, Value::Text(_) | Value::Number(_));
                    (fits, "a duration, such as `5s`".to_owned())
                }
            };
            if !fits {
                return Err(self.field_error(name, &format!("is not {what}")));
            }
        }
        Ok(())
    }

    /// Returns an error that names the field.
    pub(super) fn field_error(&self, name: &str, what: &str) -> Error {
        invalid(format!("`{}{name}` {what}", self.prefix))
    }

    /// Adds the field's name to `error`.
    pub(super) fn with_field(&self, name: &str, error: Error) -> Error {
        refused(&format!("{}{name}", self.prefix), error)
    }

    /// Returns `text`, or an error if it contains a variable that is not expanded.
    fn reject_variable<'t>(&self, name: &str, text: &'t str) -> Result<&'t str> {
        if self.dollar_is_literal || !has_variable(text) {
            return Ok(text);
        }
        Err(self.field_error(name, &format!("cannot be used: {VARIABLE_ADVICE}")))
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
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
