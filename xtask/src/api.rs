//! The check of the public items of the library crates against `docs/api`.
//!
//! The list comes from rustdoc's JSON output, which needs the nightly compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{output, step, succeeds, with_tools};
use crate::folders::{target, workspace};
use crate::tools;

const TOOLCHAIN: &str = "nightly";

/// The facade.
const FACADE: &str = "service-registry";

/// The number of names at the root of the facade, without modules.
const ROOT_NAMES: usize = 20;

/// The library crates, and the features that they are listed with. The facade is listed without `grpc`, whose items are
/// those of `registry-tonic`.
const CRATES: [(&str, &str); 9] = [
    (FACADE, "mem,etcd,redis,tls,http,serve,axum,go-zero"),
    ("registry-core", ""),
    ("registry-engine", ""),
    ("registry-balance", ""),
    ("registry-mem", ""),
    ("registry-etcd", "tls"),
    ("registry-redis", "tls"),
    ("registry-tonic", ""),
    ("registry-testkit", ""),
];

/// The clients. Only `registry-tonic` may have their types in signatures.
const CLIENTS: [&str; 3] = ["tonic", "etcd_client", "redis"];

/// Returns whether the machine has the nightly compiler.
pub(crate) fn can_run() -> bool {
    succeeds(Command::new("rustup").args(["run", TOOLCHAIN, "rustc", "--version"]))
}

/// Lists the items of each crate. Fails if they differ from `docs/api`, or with `accept` writes them there.
pub(crate) fn run(accept: bool) -> Result<()> {
    ensure!(
        can_run(),
        "the nightly compiler is missing: rustup toolchain install {TOOLCHAIN} --profile minimal"
    );
    tools::public_api()?;
    let folder = workspace().join("docs/api");
    let mut changed = Vec::new();
    for (name, features) in CRATES {
        step(&format!("the items of {name}"));
        let items = list(name, features)?;
        check_clients(name, &items)?;
        if name == FACADE {
            check_root(&items)?;
        }
        let file = folder.join(format!("{name}.txt"));
        if accept {
            write(&file, &items)?;
        } else if fs::read_to_string(&file).ok().as_deref() != Some(&items) {
            changed.push(difference(&file, &items));
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "public items differ from docs/api:\n{}\nIf the change is intended: cargo xtask api --accept",
        changed.join("\n")
    )
}

/// Returns one line for each item.
fn list(name: &str, features: &str) -> Result<String> {
    let mut list = with_tools(Command::new("cargo"));
    list.arg(format!("+{TOOLCHAIN}")).args(["public-api", "-sss", "--package", name]);
    list.args(["--no-default-features", "--features", features]);
    list.arg("--target-dir").arg(target().join("api"));
    output(&mut list)
}

/// Fails if a type of a client is in a signature.
fn check_clients(name: &str, items: &str) -> Result<()> {
    for client in CLIENTS.iter().filter(|_| name != "registry-tonic") {
        let client = format!("{client}::");
        let names_it = |line: &&str| {
            line.match_indices(&client).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|char| !char.is_alphanumeric() && char != '_' && char != ':')
            })
        };
        if let Some(line) = items.lines().find(names_it) {
            bail!("a signature of {name} has a type of a client: {line}");
        }
    }
    Ok(())
}

/// Fails if the root of the facade does not have [`ROOT_NAMES`] names.
fn check_root(items: &str) -> Result<()> {
    let names = root_names(items);
    ensure!(
        names.len() == ROOT_NAMES,
        "the root of {FACADE} has {} names, not {ROOT_NAMES}: {}",
        names.len(),
        names.join(" ")
    );
    Ok(())
}

/// Returns the names at the root, without the modules.
fn root_names(items: &str) -> Vec<&str> {
    let kinds = [
        "pub use ",
        "pub struct ",
        "pub enum ",
        "pub trait ",
        "pub type ",
        "pub async fn ",
        "pub fn ",
    ];
    let root = format!("{}::", FACADE.replace('-', "_"));
    let mut names: Vec<&str> = items
        .lines()
        .filter_map(|line| {
            let line = line.trim_start_matches("#[non_exhaustive] ");
            let item = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
            let path = item.split(['(', '<', ' ']).next()?;
            let name = path.strip_prefix(&root)?;
            let is_module =
                name.starts_with(|first: char| first.is_lowercase()) && !line.contains(" fn ");
            (!name.contains("::") && !is_module).then_some(name)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn write(file: &Path, items: &str) -> Result<()> {
    let folder = file.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(file, items).with_context(|| format!("cannot write {}", file.display()))
}

/// Returns the lines that are only in the committed file, and those that are only in the new list.
fn difference(file: &Path, items: &str) -> String {
    let committed = fs::read_to_string(file).unwrap_or_default();
    let only = |here: &str, there: &str, mark: &str| {
        let lines: Vec<_> = there.lines().collect();
        let only = here.lines().filter(|line| !lines.contains(line));
        only.fold(String::new(), |text, line| text + "  " + mark + " " + line + "\n")
    };
    format!("{}\n{}{}", file.display(), only(&committed, items, "-"), only(items, &committed, "+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_names_are_those_without_a_module() {
        let items = "pub use service_registry::Error\npub use service_registry::metrics\n\
            #[non_exhaustive] pub struct service_registry::Client\npub fn service_registry::Client::builder(&str)\n\
            pub async fn service_registry::connect(&str) -> Result\npub mod service_registry::store\n\
            pub struct service_registry::store::Target\npub fn service_registry::store::follow<S>(S)";
        assert_eq!(root_names(items), ["Client", "Error", "connect"]);
    }

    #[test]
    fn type_of_a_client_is_distinguished_from_a_module_of_the_same_name() {
        assert!(
            check_clients("registry-redis", "pub fn registry_redis::a(redis::Client)").is_err()
        );
        assert!(
            check_clients("registry-redis", "pub fn a(core::option::Option<redis::Client>)")
                .is_err()
        );
        assert!(
            check_clients("registry-redis", "pub struct service_registry::store::redis::A").is_ok()
        );
        assert!(
            check_clients("registry-redis", "pub struct registry_redis::RedisRegistry").is_ok()
        );
    }
}
