//! etcd and Redis: their releases, images and suites.

use crate::releases::{self, Release};

/// A kind of server.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The arguments that tell `cargo nextest run` what to build. With `xtask matrix --quick`, nextest builds the same
    /// as `cargo xtask test` instead.
    pub(super) build: &'static [&'static str],
    /// The variable with the URL of a running server. Removed from the environment, so that no test uses a running
    /// server.
    pub(super) url_variable: &'static str,
    /// The variable with the folder of the binary. An empty value means: no binary, use Docker.
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
    pub(super) filter_for_binary: Option<&'static str>,
    /// The filter expression for a server in a container. It excludes tests that kill, pause or wipe their server, or
    /// start it with arguments that the release in the image does not support.
    pub(super) filter_for_docker: Option<&'static str>,
    pub(super) is_slow: bool,
}

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
            filter_for_binary: Some("package(registry-etcd) & binary(/^conformance(_go_zero)?$/)"),
            filter_for_docker: Some(
                "binary(/^conformance(_go_zero)?$/) - test(/rollback|rolled_back/)",
            ),
            is_slow: false,
        },
        // Only in the slow run: the same code writes these layouts and that of go-zero, which the quick run tests.
        Suite {
            name: "conformance, Kratos and Kitex",
            variables: &[],
            filter_for_binary: Some(
                "package(registry-etcd) & binary(/^conformance_(kratos|kitex)$/)",
            ),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "conformance, three members",
            variables: &[],
            filter_for_binary: Some("package(registry-etcd) & binary(conformance_cluster)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "engine",
            variables: &[],
            filter_for_binary: Some("package(registry-etcd) & binary(engine)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "engine, three members",
            variables: &[("REGISTRY_TEST_ETCD_MEMBERS", "3")],
            filter_for_binary: Some("package(registry-etcd) & binary(engine)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "other tests",
            variables: &[],
            filter_for_binary: Some("package(registry-etcd) - binary(/^conformance|^engine/)"),
            filter_for_docker: Some(
                "binary(etcd) & test(/^(leases|reads|registration|watches)::/)",
            ),
            is_slow: true,
        },
        Suite {
            name: "servers",
            variables: &[],
            filter_for_binary: Some("package(registry-testbed) & binary(/^(auth|cluster|tls)$/)"),
            filter_for_docker: Some("package(registry-testbed) & binary(docker) & test(etcd)"),
            is_slow: false,
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
            filter_for_binary: Some("package(registry-redis) & binary(conformance)"),
            filter_for_docker: Some(
                "package(registry-redis) & binary(conformance) - test(/rollback|rolled_back/)",
            ),
            is_slow: false,
        },
        Suite {
            name: "conformance, cluster",
            variables: &[],
            filter_for_binary: Some("package(registry-redis) & binary(conformance_cluster)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "engine",
            variables: &[],
            filter_for_binary: Some("package(registry-redis) & binary(engine)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "engine, sentinel",
            variables: &[("REGISTRY_TEST_REDIS_TOPOLOGY", "sentinel")],
            filter_for_binary: Some("package(registry-redis) & binary(engine)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "engine, cluster",
            variables: &[("REGISTRY_TEST_REDIS_TOPOLOGY", "cluster")],
            filter_for_binary: Some("package(registry-redis) & binary(engine)"),
            filter_for_docker: None,
            is_slow: true,
        },
        Suite {
            name: "other tests",
            variables: &[],
            filter_for_binary: Some("package(registry-redis) - binary(/^conformance|^engine/)"),
            filter_for_docker: Some("binary(redis) & test(/^(feed|loads|operations|renewals)::/)"),
            is_slow: true,
        },
        Suite {
            name: "servers",
            variables: &[],
            filter_for_binary: Some("package(registry-testbed) & binary(servers) & test(redis)"),
            filter_for_docker: Some("package(registry-testbed) & binary(docker) & test(redis)"),
            is_slow: false,
        },
    ],
};
