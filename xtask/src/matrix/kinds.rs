//! The kinds of servers, with the suites for each.

use crate::releases::{self, Release};

/// A kind of server, with its releases and suites.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The arguments that tell `cargo nextest run` what to build. With `--quick` it builds the same as
    /// `cargo xtask test`.
    pub(super) build: &'static [&'static str],
    /// The variable with the URL of a running server. It is removed, so that no test uses one.
    pub(super) url_variable: &'static str,
    /// The variable with the folder of the binary. Empty means no binary, which leaves Docker.
    pub(super) path_variable: &'static str,
    pub(super) image_variable: &'static str,
    pub(super) releases: &'static [Release],
    pub(super) images: &'static [&'static str],
    pub(super) suites: &'static [Suite],
}

/// A group of tests.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// Variables for the tests, in addition to those of the server.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// The filter expression of nextest for a server from a binary.
    pub(super) by_binary: Option<&'static str>,
    /// The filter expression for a server in a container. It excludes tests that kill, pause or wipe their server, or
    /// start it with arguments that the release in the image does not support.
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
        // Slow only, since the same code writes these layouts and that of go-zero.
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
