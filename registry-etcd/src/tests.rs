use super::*;

use registry_testbed::call_sizes;
use registry_testbed::servers::Etcd;

#[tokio::test]
async fn call_futures_are_small() {
    let server = Etcd::start().await.unwrap();
    let registry = EtcdRegistry::connect(&server.url().parse().unwrap()).await.unwrap();
    let sizes = call_sizes(&registry).await;
    assert!(sizes.iter().all(|(_, size)| *size <= 3 * 1024), "{sizes:?}");
}

#[tokio::test]
async fn invalid_url_is_refused_with_a_hint() {
    let cases = [
        ("redis://h", "begins with etcd://"),
        ("etcd://", "names no host"),
        ("etcd://app@h", "only one of user and password"),
        ("etcd://:s3cret@h", "only one of user and password"),
        ("etcd://h?ca=/x.pem", "unknown option"),
        ("etcd://h?layout=gozero", "`native`, `go-zero`, `grpc`, `kratos` or `kitex`"),
        ("etcd://h?layouts=native", "unknown option"),
    ];
    for (url, hint) in cases {
        let error = EtcdRegistry::connect(&url.parse().unwrap()).await.unwrap_err();
        let lazy = EtcdRegistry::connect_lazy(&url.parse().unwrap()).unwrap_err();
        assert_eq!(lazy.to_string(), error.to_string(), "{url}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(error.to_string().contains(hint), "{url}: {error}");
        assert!(!format!("{error:?}").contains("s3cret"));
    }
}
