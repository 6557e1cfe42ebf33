//! The check of the allowed dependencies between packages.
//!
//! The facade depends on the engine and the stores, and these on the contract. The test kit depends only on the
//! contract and the memory store, so that any store can use it. A plain build includes no client of another
//! store, compiler or container engine.

use anyhow::{Result, ensure};

use crate::command::{cargo, output};
use crate::packages;

/// The packages of the workspace, with those that may be in the plain build of each.
const OURS: [(&str, &str); 19] = [
    ("registry-core", ""),
    ("registry-engine", "registry-core"),
    ("registry-mem", "registry-core"),
    ("registry-etcd", "registry-core"),
    ("registry-redis", "registry-core"),
    ("registry-balance", ""),
    ("registry-tonic", "registry-balance registry-core registry-engine"),
    ("registry-testkit", "registry-core registry-mem"),
    ("registry-testbed", "registry-core registry-engine registry-mem registry-testkit"),
    ("service-registry", "registry-balance registry-core registry-engine registry-mem"),
    (
        "registryctl",
        "registry-balance registry-core registry-engine registry-mem registry-etcd registry-redis \
         service-registry",
    ),
    (
        "grpc-example",
        "registry-balance registry-core registry-engine registry-mem registry-tonic \
         service-registry",
    ),
    (
        "http-example",
        "registry-balance registry-core registry-engine registry-mem service-registry",
    ),
    (
        "mall",
        "registry-balance registry-core registry-engine registry-mem registry-tonic \
         service-registry",
    ),
    (
        "prometheus-example",
        "registry-balance registry-core registry-engine registry-mem service-registry",
    ),
    (
        "comparison",
        "registry-balance registry-core registry-engine registry-mem registry-etcd registry-redis \
         registry-testbed registry-testkit registry-tonic service-registry",
    ),
    (
        "faults",
        "registry-core registry-engine registry-mem registry-etcd registry-redis registry-testbed \
         registry-testkit",
    ),
    (
        "interop",
        "faults registry-balance registry-core registry-engine registry-mem registry-etcd registry-redis \
         registry-testbed registry-testkit registry-tonic service-registry",
    ),
    ("xtask", ""),
];

/// External packages that must not be in the build of a package, with the kinds of dependencies to check.
const OTHERS: [(&str, &str, &str); 13] = [
    ("registry-core", "normal", "etcd-client redis tonic prost testcontainers"),
    ("registry-engine", "normal", "etcd-client redis tonic prost testcontainers"),
    ("registry-mem", "normal", "etcd-client redis tonic prost testcontainers"),
    ("registry-etcd", "normal", "redis testcontainers"),
    ("registry-redis", "normal", "etcd-client tonic prost testcontainers"),
    ("registry-balance", "normal", "etcd-client redis tonic prost testcontainers tokio"),
    ("registry-tonic", "normal", "etcd-client redis testcontainers"),
    (
        "registry-testkit",
        "normal",
        "etcd-client redis tonic prost testcontainers rcgen rustix tempfile tokio-rustls",
    ),
    ("registry-testbed", "normal", "etcd-client redis tonic prost testcontainers"),
    // Building the quickstart includes the development dependencies.
    ("service-registry", "normal,dev", "etcd-client redis tonic prost testcontainers"),
    ("comparison", "normal,dev", "testcontainers"),
    ("faults", "normal,dev", "testcontainers"),
    ("interop", "normal,dev", "testcontainers"),
];

/// Fails if a dependency is not allowed.
pub(super) fn run() -> Result<()> {
    let members = packages::all()?;
    let members: Vec<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for member in &members {
        match OURS.iter().find(|(package, _)| package == member) {
            Some((package, allowed)) => {
                wrong.extend(not_allowed(package, &tree(package, "normal")?, &members, allowed));
            }
            None => wrong.push(format!("{member} has no row in `OURS` of {}: add one", file!())),
        }
    }
    for (package, edges, refused) in OTHERS {
        wrong.extend(refused_ones(package, &tree(package, edges)?, refused));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Returns the dependencies of a package, one in each line, after the package itself.
fn tree(package: &str, edges: &str) -> Result<String> {
    let arguments = ["--prefix=none", "--format={p}", "--edges", edges, "--package", package];
    output(cargo().args(["tree", "--locked"]).args(arguments))
}

/// Returns the names in a tree, except for the package itself.
fn names(tree: &str) -> Vec<&str> {
    let mut names: Vec<&str> =
        tree.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn not_allowed(package: &str, tree: &str, members: &[&str], allowed: &str) -> Vec<String> {
    let is_wrong = |name: &&str| {
        members.contains(name) && *name != package && !allowed.split(' ').any(|one| one == *name)
    };
    complaints(package, names(tree).into_iter().filter(is_wrong))
}

fn refused_ones(package: &str, tree: &str, refused: &str) -> Vec<String> {
    let is_wrong = |name: &&str| refused.split(' ').any(|one| one == *name);
    complaints(package, names(tree).into_iter().filter(is_wrong))
}

fn complaints<'a>(package: &str, wrong: impl Iterator<Item = &'a str>) -> Vec<String> {
    wrong.map(|name| format!("{package} must not depend on {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
upper v0.1.0 (/there/upper)
lower v0.1.0 (/there/lower)
redis v1.8.1
tokio v1.54.1 (*)
redis v1.8.1 (*)
tokio-macros v2.7.2 (proc-macro)
";

    #[test]
    fn dependency_on_a_workspace_package_must_be_allowed() {
        let members = ["lower", "upper", "redis-of-ours"];
        assert!(not_allowed("upper", TREE, &members, "other lower").is_empty());
        let wrong = not_allowed("upper", TREE, &members, "other");
        assert_eq!(wrong, ["upper must not depend on lower"]);
    }

    #[test]
    fn dependency_on_a_refused_external_package_is_reported() {
        assert!(refused_ones("upper", TREE, "upper tonic tokio-stream").is_empty());
        let wrong = refused_ones("upper", TREE, "tonic redis");
        assert_eq!(wrong, ["upper must not depend on redis"]);
    }
}
