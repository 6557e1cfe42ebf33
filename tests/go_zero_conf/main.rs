//! Compares how go-zero and this library read a configuration file.
//!
//! `files/understood.json` is the output of `interop conf` in `interop/go` for the folder `files`, which go-zero itself
//! reads there. `cargo xtask go-zero` runs it again and compares.
#![cfg(all(feature = "go-zero", feature = "grpc"))]
#![allow(clippy::unwrap_used)]

mod differences;
mod generated;
mod understood;

use differences::DIFFERENCES;
use serde_json::Value;
use service_registry::go_zero::{ClientConfig, Loader, ServerConfig};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that makes this test write the generated cases again.
const ACCEPT: &str = "REGISTRY_TEST_ACCEPT";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go_zero_conf/files")
}

fn read_json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns the text of each case by its name: the kind of configuration, `/`, and a file name.
fn cases() -> BTreeMap<String, String> {
    let mut cases: BTreeMap<String, String> = read_json("generated.json");
    for kind in ["server", "client", "both"] {
        for file in fs::read_dir(folder().join(kind)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            cases.insert(format!("{kind}/{name}"), fs::read_to_string(&path).unwrap());
        }
    }
    cases
}

/// Returns what this library reads, or its error.
fn understand(kind: &str, path: &Path, loader: &Loader) -> Result<Value, String> {
    #[derive(serde::Deserialize)]
    struct Both {
        #[serde(flatten)]
        server: ServerConfig,
        #[serde(rename = "UserRpc", alias = "userrpc")]
        client: ClientConfig,
    }
    let understood = match kind {
        "server" => loader.read(path).map(|config| understood::server(&config)),
        "client" => loader.read(path).map(|config| understood::client(&config)),
        _ => loader.read(path).map(|Both { server, client }| {
            let mut both = understood::server(&server);
            let client = understood::client(&client);
            both.as_object_mut().unwrap().extend(client.as_object().unwrap().clone());
            both
        }),
    };
    understood.map_err(|error| error.chain().to_string())
}

#[test]
fn file_is_read_as_by_go_zero_or_listed_as_a_difference() {
    let understood: BTreeMap<String, Value> = read_json("understood.json");
    let environment: BTreeMap<String, String> = read_json("environment.json");
    let use_env = Loader::new().use_variables(move |name| environment.get(name).cloned());
    let place = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut used = vec![0; DIFFERENCES.len()];
    let cases = cases();
    assert!(cases.keys().eq(understood.keys()), "run `cargo xtask go-zero --accept`");
    for (name, text) in &cases {
        let (kind, file) = name.split_once('/').unwrap();
        let path = place.path().join(file);
        fs::write(&path, text).unwrap();
        let has_env = path.file_stem().unwrap().to_str().unwrap().ends_with("-env");
        let loader = if has_env { &use_env } else { &Loader::new() };
        let ours = understand(kind, &path, loader);
        let theirs = &understood[name];
        let equal = match &ours {
            Ok(ours) => *ours == understood::normal(theirs),
            Err(_) => theirs.get("refused").is_some(),
        };
        let listed = DIFFERENCES.iter().position(|difference| difference.covers(name));
        match (equal, listed) {
            (true, _) => {}
            (false, Some(at)) if DIFFERENCES[at].matches(&ours) => used[at] += 1,
            (false, _) => {
                wrong.push(format!("{name}\n  go-zero {theirs}\n  here    {ours:?}\n{text}"));
            }
        }
    }
    for (index, difference) in DIFFERENCES.iter().enumerate().filter(|(index, _)| used[*index] == 0)
    {
        wrong.push(format!("difference {index} has no case: {}", difference.why));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn generated_cases_are_those_that_go_zero_has_read() {
    let path = folder().join("generated.json");
    let generated = serde_json::to_string_pretty(&generated::cases()).unwrap() + "\n";
    if std::env::var_os(ACCEPT).is_some() {
        fs::write(&path, &generated).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == generated, "run `cargo xtask go-zero --accept`");
}
