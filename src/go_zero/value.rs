//! The parsed values of a configuration, independent of its format.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The fields of a map in their order, with unique names.
pub(super) type Fields = Vec<(String, Value)>;

/// A value in a configuration. It has no `Debug`, since it may contain passwords.
#[derive(Clone)]
pub(super) enum Value {
    /// The `null` of JSON.
    Null,
    /// The `null` of YAML, which go-zero reads as the text "".
    Blank,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Map(Fields),
}

/// A number and its written form.
#[derive(Clone)]
pub(super) struct Number {
    pub(super) written: String,
    pub(super) exact: Exact,
}

#[derive(Clone, Copy)]
pub(super) enum Exact {
    Integer(i128),
    Float(f64),
}

impl Value {
    /// Returns a whole number with its written form.
    pub(super) fn integer(written: impl Into<String>, integer: i128) -> Self {
        Self::Number(Number { written: written.into(), exact: Exact::Integer(integer) })
    }

    /// Returns a number of YAML or TOML. Without a fraction it becomes a whole number, as in go-zero.
    pub(super) fn float(written: impl Into<String>, float: f64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // it is below 2^63
        let exact = if float.fract() == 0.0 && float.abs() < 9.0e18 {
            Exact::Integer(float as i128)
        } else {
            Exact::Float(float)
        };
        Self::Number(Number { written: written.into(), exact })
    }

    /// Turns each float without a fraction into a whole number.
    pub(super) fn with_whole_floats(self) -> Self {
        match self {
            Self::Number(Number { written, exact: Exact::Float(float) }) => {
                Self::float(written, float)
            }
            Self::List(list) => Self::List(list.into_iter().map(Self::with_whole_floats).collect()),
            Self::Map(fields) => {
                let fields = fields.into_iter();
                Self::Map(fields.map(|(name, value)| (name, value.with_whole_floats())).collect())
            }
            other => other,
        }
    }

    /// Returns the number of values in it, including itself.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(Self::size).sum::<usize>(),
            Self::Map(fields) => 1 + fields.iter().map(|(_, value)| value.size()).sum::<usize>(),
            _ => 1,
        }
    }
}

impl Number {
    /// Returns the text that go-zero converts the number to.
    pub(super) fn to_text(&self) -> String {
        match self.exact {
            Exact::Integer(integer) => integer.to_string(),
            Exact::Float(float) => float.to_string(),
        }
    }
}

/// Returns the field `name`, ignoring case.
///
/// # Errors
///
/// If there are two such fields, in different case.
pub(super) fn find<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a Value>, GivenTwice> {
    let mut found = fields.iter().filter(|(field, _)| field.to_lowercase() == name.to_lowercase());
    let first = found.next().map(|(_, value)| value);
    if found.next().is_some() { Err(GivenTwice) } else { Ok(first) }
}

/// The error of a field that is given twice, in different case. go-zero uses either, and not always the same.
#[derive(Debug)]
pub(super) struct GivenTwice;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

pub(super) struct AnyValue;

/// The key with which the crate `toml` marks a date or a time.
const TOML_DATETIME: &str = "$__toml_private_datetime";

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Blank)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
        Ok(Value::integer(integer.to_string(), integer.into()))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Value, E> {
        Ok(Value::integer(integer.to_string(), integer.into()))
    }

    fn visit_i128<E>(self, integer: i128) -> Result<Value, E> {
        Ok(Value::integer(integer.to_string(), integer))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Number(Number { written: float.to_string(), exact: Exact::Float(float) }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Fields::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == TOML_DATETIME {
                return map.next_value().map(Value::Text);
            }
            if fields.iter().any(|(field, _)| *field == name) {
                return Err(Error::custom(given_twice(&name)));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(Value::Map(fields))
    }
}

pub(super) fn given_twice(name: &str) -> String {
    format!("`{}` is given twice", name.escape_debug())
}
