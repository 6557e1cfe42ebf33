//! Generated cases: each field with values of each type, in each format.

use std::collections::BTreeMap;

/// The name of a field, and a configuration in JSON with single quotes, in which `%` is the value of that field. JSON
/// is also YAML.
type Template = (&'static str, &'static [&'static str]);

const SERVERS: [Template; 11] = [
    ("name", &["'Name': %", "'ListenOn': ':80'"]),
    ("listen-on", &["'Name': 'a'", "'ListenOn': %"]),
    ("etcd", &["'Name': 'a'", "'ListenOn': ':80'", "'Etcd': %"]),
    ("hosts", &["'Name': 'a'", "'ListenOn': ':80'", "'Etcd': {'Hosts': %, 'Key': 'a'}"]),
    ("key", &["'Name': 'a'", "'ListenOn': ':80'", "'Etcd': {'Hosts': ['h'], 'Key': %}"]),
    ("id", &["'Name': 'a'", "'ListenOn': ':80'", "'Etcd': {'Hosts': ['h'], 'Key': 'a', 'ID': %}"]),
    (
        "pass",
        &[
            "'Name': 'a'",
            "'ListenOn': ':80'",
            "'Etcd': {'Hosts': ['h'], 'Key': 'a', 'User': 'u', 'Pass': %}",
        ],
    ),
    (
        "ca",
        &[
            "'Name': 'a'",
            "'ListenOn': ':80'",
            "'Etcd': {'Hosts': ['h'], 'Key': 'a', 'CertFile': 'c', 'CertKeyFile': 'k', 'CACertFile': %}",
        ],
    ),
    (
        "skip",
        &[
            "'Name': 'a'",
            "'ListenOn': ':80'",
            "'Etcd': {'Hosts': ['h'], 'Key': 'a', 'InsecureSkipVerify': %}",
        ],
    ),
    ("timeout", &["'Name': 'a'", "'ListenOn': ':80'", "'Timeout': %"]),
    ("health", &["'Name': 'a'", "'ListenOn': ':80'", "'Health': %"]),
];

const CLIENTS: [Template; 7] = [
    ("endpoints", &["'Endpoints': %"]),
    ("target", &["'Target': %"]),
    ("token", &["'Etcd': {'Hosts': ['h'], 'Key': 'a'}", "'App': 'a'", "'Token': %"]),
    ("non-block", &["'Etcd': {'Hosts': ['h'], 'Key': 'a'}", "'NonBlock': %"]),
    ("timeout", &["'Etcd': {'Hosts': ['h'], 'Key': 'a'}", "'Timeout': %"]),
    ("balancer", &["'Etcd': {'Hosts': ['h'], 'Key': 'a'}", "'BalancerName': %"]),
    ("middlewares", &["'Etcd': {'Hosts': ['h'], 'Key': 'a'}", "'Middlewares': %"]),
];

/// Values in YAML, with a name for each.
const YAML: [(&str, &str); 23] = [
    ("yes", "yes"),
    ("off", "off"),
    ("true", "true"),
    ("null", "~"),
    ("empty", "''"),
    ("text", "some-text"),
    ("quoted", "'12'"),
    ("integer", "12"),
    ("negative", "-3"),
    ("octal", "012"),
    ("hexadecimal", "0x1f"),
    ("underscores", "1_0"),
    ("whole", "12.0"),
    ("fraction", "1.5"),
    ("exponent", "1e3"),
    ("large", "9223372036854775807"),
    ("too-large", "9223372036854775808"),
    ("date", "2026-01-01"),
    ("time", "12:30"),
    ("list", "[a, 'b']"),
    ("mixed-list", "[a, 1, ~]"),
    ("map", "{a: b}"),
    ("tagged", "!!str 1"),
];

/// Values in JSON, with a name for each.
const JSON: [(&str, &str); 13] = [
    ("null", "null"),
    ("empty", "\"\""),
    ("text", "\"some-text\""),
    ("integer", "12"),
    ("whole", "12.0"),
    ("fraction", "1.5"),
    ("exponent", "1e3"),
    ("true", "true"),
    ("empty-list", "[]"),
    ("list", "[\"a\", \"b\"]"),
    ("null-list", "[null]"),
    ("flag-list", "[true]"),
    ("map", "{\"a\": \"b\"}"),
];

const TOML: [(&str, &str); 11] = [
    ("empty", "''"),
    ("text", "'some-text'"),
    ("integer", "12"),
    ("hexadecimal", "0x1f"),
    ("whole", "12.0"),
    ("fraction", "1.5"),
    ("true", "true"),
    ("empty-list", "[]"),
    ("list", "['a', 'b']"),
    ("map", "{a = 'b'}"),
    ("date", "2026-01-01"),
];

/// The `Etcd` section around a client and inside of it, with a name for each.
const INHERITED: [(&str, &str); 8] = [
    ("none", ""),
    ("empty", "Etcd: {}, "),
    ("null", "Etcd: , "),
    ("hosts", "Etcd: {Hosts: [h1]}, "),
    ("key", "eTcD: {kEy: k2}, "),
    ("both", "ETCD: {hosts: [h3], key: k3}, "),
    ("login", "Etcd: {Hosts: [h4], Key: k4, User: u, Pass: p, ID: 4}, "),
    ("half", "Etcd: {Hosts: [h5], Key: k5, Pass: ''}, "),
];

/// Returns the text of each case by its name.
pub(crate) fn cases() -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    for (kind, templates) in [("server", &SERVERS[..]), ("client", &CLIENTS[..])] {
        for (field, lines) in templates {
            let json = format!("{{{}}}\n", lines.join(", ")).replace('\'', "\"");
            let toml = lines.join("\n").replace("': ", "' = ") + "\n";
            for (format, template, values) in
                [("yaml", &json, &YAML[..]), ("json", &json, &JSON), ("toml", &toml, &TOML)]
            {
                for (value, text) in values {
                    let name = format!("{kind}/generated-{field}-{value}.{format}");
                    cases.insert(name, template.replace('%', text));
                }
            }
        }
    }
    for (around, outer) in INHERITED {
        for (within, inner) in INHERITED {
            let name = format!("both/generated-{around}-{within}.yaml");
            let text =
                format!("{{Name: a, ListenOn: ':80', {outer}UserRpc: {{{inner}Timeout: 1}}}}");
            cases.insert(name, text);
        }
    }
    cases
}
