//! The meaning of plain (unquoted) scalars in YAML 1.1.

use crate::go_zero::value::Value;
use std::borrow::Cow;

const TRUE: [&str; 11] = ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"];
const FALSE: [&str; 11] =
    ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"];
const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
const NOT_A_NUMBER: [&str; 3] = [".nan", ".NaN", ".NAN"];
const INFINITE: [&str; 3] = [".inf", ".Inf", ".INF"];

pub(super) fn resolve(text: Cow<'_, str>) -> Value {
    let plain = text.as_ref();
    if TRUE.contains(&plain) {
        Value::Bool(true)
    } else if FALSE.contains(&plain) {
        Value::Bool(false)
    } else if NULL.contains(&plain) {
        Value::Blank
    } else {
        number(plain).unwrap_or_else(|| Value::Text(text.into_owned()))
    }
}

fn number(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if NOT_A_NUMBER.contains(&text) {
        return Some(Value::float(text, f64::NAN));
    }
    if INFINITE.contains(&unsigned) {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Some(Value::float(text, sign * f64::INFINITY));
    }
    match text.as_bytes().first()? {
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            let integer = integer(&digits).map(|integer| Value::integer(text, integer));
            integer.or_else(|| Some(Value::float(text, float(&digits)?)))
        }
        b'.' => Some(Value::float(text, float(text)?)),
        _ => None,
    }
}

/// Parses a 64-bit whole number: hexadecimal after `0x`, binary after `0b`, octal after `0` or `0o`.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    // `from_str_radix` would accept a second sign.
    let value = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    let value = if negative { -i128::from(value) } else { i128::from(value) };
    (value >= i64::MIN.into()).then_some(value)
}

fn float(text: &str) -> Option<f64> {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(is_part).then(|| text.parse().ok())?.filter(|float: &f64| float.is_finite())
}
