//! The kinds of servers, and what is run against each.

use crate::releases::{self, Release};

/// A kind of server, and the tests of what runs on it.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What `cargo nextest run` is to build; in the short form, what plain tests build.
    pub(super) build: &'static [&'static str],
    /// The variable that leads the tests to a running server, which none is to use.
    pub(super) url_variable: &'static str,
    /// The variable with the folder of the binary; empty for none, which leaves Docker.
    pub(super) path_variable: &'static str,
    pub(super) image_variable: &'static str,
    pub(super) releases: &'static [Release],
    pub(super) images: &'static [&'static str],
    pub(super) suites: &'static [Suite],
}

/// Some of the tests.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// What the tests are told besides where the server is.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// Which, in nextest's language.
    pub(super) by_binary: Option<&'static str>,
    /// Which against a container: none that kills, pauses or wipes its server, or gives it
    /// arguments of which the release in the image knows nothing.
    pub(super) in_docker: Option<&'static str>,
    pub(super) takes_long: bool,
}

/// All kinds.
pub(crate) static KINDS: [Kind; 2] = [ETCD, REDIS];

const ETCD: Kind = Kind {
    name: "etcd",
    build: &[
        "--package=registry-etcd",
        "--package=registry-testbed",
        "--features=registry-etcd/tls,registry-testbed/tls,registry-testbed/docker",
    ],
    url_variable: "REGISTRY_TEST_ETCD_URL",
    path_variable: "REGISTRY_TEST_ETCD_PATH",
    image_variable: "REGISTRY_TEST_ETCD_IMAGE",
    releases: &releases::ETCD,
    images: &["quay.io/coreos/etcd:v3.5.16"],
    suites: &[
        Suite {
            name: "conformance",
            variables: &[],
            by_binary: Some("package(registry-etcd) & binary(/^conformance(_go_zero)?$/)"),
            in_docker: Some("binary(/^conformance(_go_zero)?$/) - test(/rollback|rolled_back/)"),
            takes_long: false,
        },
        // Their keys are written by the same code as go-zero's.
        Suite {
            name: "conformance, Kratos and Kitex",
            variables: &[],
            by_binary: Some("package(registry-etcd) & binary(/^conformance_(kratos|kitex)$/)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "conformance, three members",
            variables: &[],
            by_binary: Some("package(registry-etcd) & binary(conformance_cluster)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "engine",
            variables: &[],
            by_binary: Some("package(registry-etcd) & binary(engine)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "engine, three members",
            variables: &[("REGISTRY_TEST_ETCD_MEMBERS", "3")],
            by_binary: Some("package(registry-etcd) & binary(engine)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "tests",
            variables: &[],
            by_binary: Some("package(registry-etcd) - binary(/^conformance|^engine/)"),
            in_docker: Some("binary(etcd) & test(/^(leases|reads|registration|watches)::/)"),
            takes_long: true,
        },
        Suite {
            name: "servers",
            variables: &[],
            by_binary: Some("package(registry-testbed) & binary(/^(auth|cluster|tls)$/)"),
            in_docker: Some("package(registry-testbed) & binary(docker) & test(etcd)"),
            takes_long: false,
        },
    ],
};

const REDIS: Kind = Kind {
    name: "redis",
    build: &[
        "--package=registry-redis",
        "--package=registry-testbed",
        "--features=registry-redis/tls,registry-testbed/tls,registry-testbed/docker",
    ],
    url_variable: "REGISTRY_TEST_REDIS_URL",
    path_variable: "REGISTRY_TEST_REDIS_PATH",
    image_variable: "REGISTRY_TEST_REDIS_IMAGE",
    releases: &releases::REDIS,
    images: &["redis:8.0", "valkey/valkey:8.1"],
    suites: &[
        Suite {
            name: "conformance",
            variables: &[],
            by_binary: Some("package(registry-redis) & binary(conformance)"),
            in_docker: Some(
                "package(registry-redis) & binary(conformance) - test(/rollback|rolled_back/)",
            ),
            takes_long: false,
        },
        Suite {
            name: "conformance, cluster",
            variables: &[],
            by_binary: Some("package(registry-redis) & binary(conformance_cluster)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "engine",
            variables: &[],
            by_binary: Some("package(registry-redis) & binary(engine)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "engine, sentinel",
            variables: &[("REGISTRY_TEST_REDIS_TOPOLOGY", "sentinel")],
            by_binary: Some("package(registry-redis) & binary(engine)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "engine, cluster",
            variables: &[("REGISTRY_TEST_REDIS_TOPOLOGY", "cluster")],
            by_binary: Some("package(registry-redis) & binary(engine)"),
            in_docker: None,
            takes_long: true,
        },
        Suite {
            name: "tests",
            variables: &[],
            by_binary: Some("package(registry-redis) - binary(/^conformance|^engine/)"),
            in_docker: Some("binary(redis) & test(/^(feed|loads|operations|renewals)::/)"),
            takes_long: true,
        },
        Suite {
            name: "servers",
            variables: &[],
            by_binary: Some("package(registry-testbed) & binary(servers) & test(redis)"),
            in_docker: Some("package(registry-testbed) & binary(docker) & test(redis)"),
            takes_long: false,
        },
    ],
};
