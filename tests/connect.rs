//! Tests of URLs and their errors.

use registry_core::CallOptions;
use service_registry::{ErrorKind, connect};

async fn refusal(url: &str) -> String {
    let error = connect(url).await.expect_err(url);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

#[tokio::test]
async fn the_error_of_an_unknown_scheme_lists_the_built_in_ones() {
    let message = refusal("consul://h").await;
    assert!(message.starts_with("unknown scheme `consul://`, known are: "), "{message}");
    assert_eq!(message.contains("mem://"), cfg!(feature = "mem"), "{message}");
    assert_eq!(message.contains("etcd://"), cfg!(feature = "etcd"), "{message}");
    assert_eq!(message.contains("redis://"), cfg!(feature = "redis"), "{message}");
}

#[cfg(not(feature = "etcd"))]
#[tokio::test]
async fn the_error_of_a_scheme_that_is_not_built_in_names_its_feature() {
    let message = refusal("etcd://127.0.0.1:2379").await;
    assert_eq!(message, "`etcd://` is not built in: enable the feature `etcd` of service-registry");
}

#[cfg(not(all(feature = "etcd", feature = "tls")))]
#[tokio::test]
async fn the_error_of_tls_that_is_not_built_in_names_its_features() {
    let message = refusal("etcds://127.0.0.1:2379").await;
    let needed = "the features `etcd` and `tls` of service-registry";
    assert_eq!(message, format!("`etcds://` is not built in: enable {needed}"));
}

#[cfg(feature = "mem")]
#[tokio::test]
async fn memory_registries_without_a_name_are_private() {
    use service_registry::store::Registry;

    let open = async |url| connect(url).await.unwrap().registry().clone();
    let (one, two) = (open("mem://").await, open("mem://?ttl=5s").await);
    let service = "a".parse().unwrap();
    let cursor = one.load(&service, &CallOptions::DEFAULT).await.unwrap().cursor().clone();
    assert_eq!(
        two.watch(&service, &cursor, &CallOptions::DEFAULT).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert!(refusal("mem://host:80").await.contains("without port or user"));
    assert!(refusal("mem://?prefix=a").await.contains("unknown option `prefix`"));
}

#[cfg(all(feature = "etcd", feature = "redis"))]
#[tokio::test]
async fn no_error_shows_a_password() {
    // Nothing listens on port 1 of loopback, so that these fail to connect. The last URL is invalid.
    for url in
        ["redis://app:s3cret@127.0.0.1:1", "etcd://app:s3cret@127.0.0.1:1", "redis://app:s3cret@"]
    {
        let error = connect(url).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}
