//! YAML, as go-zero's parser reads it (`gopkg.in/yaml.v2`).

mod plain;

use super::invalid;
use super::value::{Fields, Value, given_twice};
use crate::{Error, Result};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, Tag, options};
use std::borrow::Cow;
use std::collections::HashMap;

/// The maximum nesting depth of values.
const MAX_DEPTH: usize = 100;

/// The maximum number of values, with every alias expanded.
const MAX_VALUES: usize = 100_000;

/// Parses a document.
pub(super) fn parse(text: &str) -> Result<Value> {
    let options: Options = options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options)
        .map(|event| event.map_err(|error| at(error.marker(), MALFORMED)));
    let mut builder = Builder { events, anchors: HashMap::new(), left: MAX_VALUES };
    builder.document()
}

const MALFORMED: &str = "the YAML is malformed";

struct Builder<I> {
    events: I,
    anchors: HashMap<usize, Value>,
    /// How many more values are allowed.
    left: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span)>>> Builder<I> {
    fn document(&mut self) -> Result<Value> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(at(&span.start, "the YAML has more than one document"));
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    root = Some(self.value(first, 0)?);
                }
                Event::StreamEnd => return Ok(root.unwrap_or(Value::Blank)),
                _ => return Err(at(&span.start, MALFORMED)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        self.events.next().unwrap_or_else(|| Err(invalid("the YAML ends unexpectedly")))
    }

    fn value(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Value> {
        let mark = &span.start;
        if depth > MAX_DEPTH {
            return Err(at(mark, "the values are nested too deeply"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| too_many(mark))?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(text, style, tag.as_deref(), mark)?)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value =
                    value.ok_or_else(|| at(mark, "the alias refers to no earlier value"))?;
                self.left = self.left.checked_sub(value.size()).ok_or_else(|| too_many(mark))?;
                (0, value)
            }
            _ => return Err(at(mark, MALFORMED)),
        };
        if anchor != 0 {
            self.left = self.left.checked_sub(value.size()).ok_or_else(|| too_many(mark))?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                next => list.push(self.value(next, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value> {
        let mut fields = Fields::new();
        let mut given: Vec<String> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Map(fields));
            }
            let is_merge = matches!(
                &event,
                Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<"
            );
            let mark = span.start;
            let name = self.value((event, span), depth + 1)?;
            let next = self.next()?;
            let value = self.value(next, depth + 1)?;
            if is_merge {
                merge(&mut fields, value, &mark)?;
                continue;
            }
            let name = name_of(name, &mark)?;
            if given.contains(&name) {
                return Err(at(&mark, &given_twice(&name)));
            }
            set(&mut fields, name.clone(), value);
            given.push(name);
        }
    }
}

/// Merges a map, or a list of maps, into `fields`. Merged fields replace existing ones, and earlier maps of the list
/// override later ones.
fn merge(fields: &mut Fields, value: Value, mark: &Marker) -> Result<()> {
    let maps = match value {
        Value::List(list) => list,
        map => vec![map],
    };
    for map in maps.into_iter().rev() {
        let Value::Map(map) = map else {
            return Err(at(mark, "`<<` merges a value that is not a map"));
        };
        for (name, value) in map {
            set(fields, name, value);
        }
    }
    Ok(())
}

fn set(fields: &mut Fields, name: String, value: Value) {
    match fields.iter_mut().find(|(field, _)| *field == name) {
        Some((_, old)) => *old = value,
        None => fields.push((name, value)),
    }
}

fn name_of(value: Value, mark: &Marker) -> Result<String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Number(number) => Ok(number.to_text()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Blank => Ok(String::new()),
        Value::List(_) | Value::Map(_) => Err(at(mark, "the name of a field is not a string")),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    mark: &Marker,
) -> Result<Value> {
    let Some(tag) = tag else {
        let is_plain = style == ScalarStyle::Plain;
        return Ok(if is_plain { plain::resolve(text) } else { Value::Text(text.into_owned()) });
    };
    let text = match tag.core_suffix() {
        Some("str") => return Ok(Value::Text(text.into_owned())),
        None => return Err(at(mark, "the tag is not one of YAML's own, such as `!!str`")),
        Some(_) => text,
    };
    let value = plain::resolve(text);
    let fits = matches!(
        (tag.core_suffix(), &value),
        (Some("int" | "float"), Value::Number(_))
            | (Some("bool"), Value::Bool(_))
            | (Some("null"), Value::Blank)
    );
    if fits { Ok(value) } else { Err(at(mark, "the value does not match its tag")) }
}

fn too_many(mark: &Marker) -> Error {
    at(mark, "the YAML has more than 100000 values, with every alias expanded")
}

fn at(mark: &Marker, what: &str) -> Error {
    invalid(format!("{what}, line=`{}`, column=`{}`", mark.line(), mark.col() + 1))
}

#[cfg(test)]
mod tests;
