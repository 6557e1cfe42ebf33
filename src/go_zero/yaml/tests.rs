use super::parse;
use crate::go_zero::value::{Exact, Number, Value};
use std::fmt::Write as _;

/// Formats a value like JSON, with `_` for a `null` of YAML and the suffix `f` for a float.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Blank => "_".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(Number { exact: Exact::Integer(integer), .. }) => integer.to_string(),
        Value::Number(Number { exact: Exact::Float(float), .. }) => format!("{float}f"),
        Value::Text(text) => format!("{text:?}"),
        Value::List(list) => {
            let list: Vec<_> = list.iter().map(shown).collect();
            format!("[{}]", list.join(","))
        }
        Value::Map(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}:{}", shown(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}

fn read(yaml: &str) -> String {
    parse(yaml).map_or_else(|error| format!("refused: {error}"), |value| shown(&value))
}

/// The table lists results of `gopkg.in/yaml.v2`.
#[test]
fn plain_scalars_are_resolved_as_in_yaml_1_1() {
    for (text, expected) in [
        ("yes", "true"),
        ("On", "true"),
        ("n", "false"),
        ("yEs", "\"yEs\""),
        ("~", "_"),
        ("", "_"),
        ("null", "_"),
        ("10", "10"),
        ("+10", "10"),
        ("-10", "-10"),
        ("--10", "\"--10\""),
        ("-+10", "\"-+10\""),
        ("1_000", "1000"),
        ("0x1F", "31"),
        ("-0x1f", "-31"),
        ("0b101", "5"),
        ("010", "8"),
        ("0o10", "8"),
        ("08", "8"),
        ("0", "0"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.5", "1.5f"),
        ("500.0", "500"),
        ("1e3", "1000"),
        (".5", "0.5f"),
        ("1.", "1"),
        ("1e999", "\"1e999\""),
        (".inf", "inff"),
        ("-.INF", "-inff"),
        (".nan", "NaNf"),
        ("inf", "\"inf\""),
        ("12:30:45", "\"12:30:45\""),
        ("2026-01-01", "\"2026-01-01\""),
        ("1.2.3", "\"1.2.3\""),
        ("'yes'", "\"yes\""),
        ("\"10\"", "\"10\""),
        ("!!str 10", "\"10\""),
        ("!!int '10'", "10"),
        ("|\n  10\n", "\"10\\n\""),
    ] {
        assert_eq!(read(&format!("a: {text}")), format!("{{a:{expected}}}"), "{text}");
    }
}

#[test]
fn aliases_and_merges_give_the_same_result_as_in_go() {
    let base = "b: &b {x: 1, w: 2}\nc: &c {x: 3, z: 4}\n";
    for (yaml, expected) in [
        ("d: *b", "d:{x:1,w:2}"),
        ("d: {<<: *b, x: 9}", "d:{x:9,w:2}"),
        // Other than in standard YAML, a merge replaces fields in front of it.
        ("d: {x: 9, <<: *b}", "d:{x:1,w:2}"),
        ("d: {<<: [*b, *c]}", "d:{x:1,z:4,w:2}"),
        ("d: {'<<': *b}", "d:{<<:{x:1,w:2}}"),
    ] {
        let all = format!("{{b:{{x:1,w:2}},c:{{x:3,z:4}},{expected}}}");
        assert_eq!(read(&format!("{base}{yaml}")), all, "{yaml}");
    }
}

#[test]
fn invalid_yaml_is_refused_with_line_and_column() {
    for (yaml, expected) in [
        ("a: 1\na: 2", "`a` is given twice, line=`2`, column=`1`"),
        ("a: 1\n---\nb: 2", "more than one document, line=`2`"),
        ("a: [1", "malformed, line="),
        ("a: *b", "line=`1`"),
        ("a: &a [*a]", "the alias refers to no earlier value"),
        ("a: !own 1", "the tag is not one of YAML's own"),
        ("a: !!int x", "the value does not match its tag"),
        ("a: {<<: 1}", "`<<` merges a value that is not a map"),
        ("? [a]\n: 1", "the name of a field is not a string"),
    ] {
        let message = read(yaml);
        assert!(
            message.starts_with("refused: ") && message.contains(expected),
            "{yaml}: {message}"
        );
    }
    let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
    assert!(read(&deep).contains("nested too deeply"), "{}", read(&deep));
}

/// Nested aliases that each repeat ten others would otherwise exhaust the memory.
#[test]
fn the_number_of_values_with_expanded_aliases_is_limited() {
    let mut yaml = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(yaml, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    assert!(read(&yaml).contains("more than 100000 values"), "{}", read(&yaml));
}
