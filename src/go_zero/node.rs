//! The serde deserializer of parsed values.

use super::value::{Exact, Fields, GivenTwice, Value, find};
use super::variables::has_variable;
use super::wrong::Wrong;
use serde::Deserializer;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::rc::Rc;

/// The newtype name that marks a go-zero configuration, which inherits `Etcd` from the maps around it.
pub(super) const CONFIG: &str = "$service_registry::go_zero::Config";

/// The section that is inherited.
const ETCD: &str = "Etcd";

/// What is wrong with a text that contains a variable, and how to read it.
pub(super) const VARIABLE_ADVICE: &str = "it contains a variable (`$`), and variables are not expanded: read the \
     configuration with `Loader::use_env`, or with `Loader::literal` if the `$` is literal";

/// A value with the `Etcd` section that it inherits.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    /// The `Etcd` section of the maps around it.
    etcd: Option<Rc<Value>>,
    /// Whether a `$` in a text is an ordinary character.
    dollar_is_literal: bool,
}

impl<'a> Node<'a> {
    pub(super) fn new(value: &'a Value, dollar_is_literal: bool) -> Self {
        Self { value, etcd: None, dollar_is_literal }
    }

    /// Returns the node of a nested value.
    fn inner(&self, value: &'a Value, etcd: Option<Rc<Value>>) -> Self {
        Self { value, etcd, dollar_is_literal: self.dollar_is_literal }
    }

    fn reject_variable<'t>(&self, text: &'t str) -> Result<&'t str, Wrong> {
        if self.dollar_is_literal || !has_variable(text) {
            Ok(text)
        } else {
            Err(Wrong::custom(VARIABLE_ADVICE))
        }
    }

    /// Visits the fields of a map, which inherit the effective `Etcd` of the map.
    fn visit_map<'de, V: Visitor<'de>>(
        &self,
        fields: &'a Fields,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let etcd = inherit(fields, self.etcd.as_ref()).unwrap_or(None);
        visitor.visit_map(Entries { node: self, fields: fields.iter(), etcd, next: None })
    }
}

/// Returns the effective `Etcd` of a map: its own, completed with the fields of the inherited one.
fn inherit(fields: &Fields, around: Option<&Rc<Value>>) -> Result<Option<Rc<Value>>, GivenTwice> {
    let Some(own) = find(fields, ETCD)? else { return Ok(around.cloned()) };
    let (Value::Map(own_fields), Some(Value::Map(around))) = (own, around.map(|etcd| &**etcd))
    else {
        return Ok(Some(Rc::new(own.clone())));
    };
    let mut all = own_fields.clone();
    for (name, value) in around {
        if find(own_fields, name)?.is_none() {
            all.push((name.clone(), value.clone()));
        }
    }
    Ok(Some(Rc::new(Value::Map(all))))
}

/// Returns a copy of a map with `etcd` as its `Etcd`.
fn with_etcd(fields: &Fields, etcd: &Value) -> Value {
    let others = fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(ETCD)).cloned();
    let mut all: Fields = others.collect();
    all.push((ETCD.to_owned(), etcd.clone()));
    Value::Map(all)
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Blank => visitor.visit_none(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match number.exact {
                Exact::Float(float) => visitor.visit_f64(float),
                Exact::Integer(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
                    (Ok(integer), _) => visitor.visit_i64(integer),
                    (_, Ok(integer)) => visitor.visit_u64(integer),
                    _ => visitor.visit_i128(integer),
                },
            },
            Value::Text(text) => visitor.visit_str(text),
            Value::List(list) => {
                visitor.visit_seq(Elements { node: &self, list: list.iter(), at: 0 })
            }
            Value::Map(fields) => self.visit_map(fields, visitor),
        }
    }

    /// A number that the program reads as a text keeps its written form, such as the version `1.10`. Texts are checked
    /// for variables only here: serde requests buffered and ignored values with `deserialize_any`.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Number(number) => visitor.visit_str(&number.written),
            Value::Text(text) => visitor.visit_str(self.reject_variable(text)?),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null | Value::Blank => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null | Value::Blank => visitor.visit_unit(),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match (name, self.value, &self.etcd) {
            (CONFIG, Value::Map(fields), Some(around)) => {
                let etcd = inherit(fields, Some(around));
                let etcd = etcd.map_err(|GivenTwice| Wrong::custom("`Etcd` is given twice"))?;
                let whole = etcd.map(|etcd| with_etcd(fields, &etcd));
                let value = whole.as_ref().unwrap_or(self.value);
                visitor.visit_newtype_struct(Node::new(value, self.dollar_is_literal))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Text(text) => {
                let name = self.reject_variable(text)?.to_owned();
                visitor.visit_enum(Variant { name, content: None })
            }
            Value::Map(fields) => match fields.as_slice() {
                [(name, value)] => {
                    let content = Some(self.inner(value, None));
                    visitor.visit_enum(Variant { name: name.clone(), content })
                }
                _ => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// A value that the program ignores is not checked.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit_struct seq
        tuple tuple_struct map struct identifier
    }
}

struct Entries<'n, 'a> {
    node: &'n Node<'a>,
    fields: std::slice::Iter<'a, (String, Value)>,
    etcd: Option<Rc<Value>>,
    next: Option<&'a (String, Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        self.next = self.fields.next();
        let Some((name, _)) = self.next else { return Ok(None) };
        seed.deserialize(StringDeserializer::new(name.clone())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let (name, value) = self
            .next
            .take()
            .ok_or_else(|| Wrong::custom("a value was requested before its name"))?;
        let inner = self.node.inner(value, self.etcd.clone());
        seed.deserialize(inner).map_err(|wrong| wrong.within(name))
    }
}

struct Elements<'n, 'a> {
    node: &'n Node<'a>,
    list: std::slice::Iter<'a, Value>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        let Some(value) = self.list.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        // As in go-zero, elements of a list inherit nothing.
        let element = seed.deserialize(self.node.inner(value, None));
        element.map(Some).map_err(|wrong| wrong.within(&at.to_string()))
    }
}

/// A variant of an enum: its name, or a map from its name to its content.
struct Variant<'a> {
    name: String,
    content: Option<Node<'a>>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Wrong;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Content<'a>), Wrong> {
        let name = seed.deserialize(StringDeserializer::<Wrong>::new(self.name))?;
        Ok((name, Content(self.content)))
    }
}

struct Content<'a>(Option<Node<'a>>);

impl Content<'_> {
    fn missing() -> Wrong {
        Wrong::custom("the content of the variant is missing")
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(Wrong::custom("the variant takes no content")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self.0.ok_or_else(Self::missing)?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.0.ok_or_else(Self::missing)?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.0.ok_or_else(Self::missing)?.deserialize_any(visitor)
    }
}
