//! Servers that use TLS.

use crate::support::{connect, ids, next_change, register, watch_from_now, within};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::RedisOptions;
use registry_testbed::servers::{Redis, ServerTls};

async fn start(tls: &ServerTls) -> Redis {
    let mut options = Redis::options();
    options.url = None;
    within(Redis::start_tls(options, tls)).await.unwrap()
}

#[tokio::test]
async fn server_is_trusted_if_the_authority_signed_it() {
    let tls = ServerTls::generate().unwrap();
    let server = start(&tls).await;
    let url = format!("{}?ca={}", server.url(), tls.ca().display());
    let registry = connect(&url, RedisOptions::default()).await.unwrap();
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut watch).await, "+1");
    assert_eq!(ids(&registry, "user.rpc").await, ["1"]);

    // Neither the system's authorities nor the wrong one have signed its certificate.
    for url in
        [server.url().to_owned(), format!("{}?ca={}", server.url(), tls.other_ca().display())]
    {
        let error = connect(&url, RedisOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("not trusted"), "{error}");
        assert!(error.to_string().contains(server.address()), "{error}");
    }
    let plain = server.url().replace("rediss://", "redis://");
    let error = connect(&plain, RedisOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("rediss://"), "{error:?}");
    assert!(error.to_string().contains(server.address()), "{error}");
    // Installing a process-wide crypto provider is up to the application.
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn file_without_a_certificate_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, pem).unwrap();
    let tls = ServerTls::generate().unwrap();
    let server = start(&tls).await;
    let url = format!("{}?ca={}", server.url(), path.display());
    let error = connect(&url, RedisOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

/// Regression: the files were read once, so no connection succeeded after the first certificate had expired.
#[tokio::test]
async fn certificates_are_read_again_for_each_connection() {
    let tls = ServerTls::mutual().unwrap();
    let server = start(&tls).await;
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let rotate = |from: [std::path::PathBuf; 2]| {
        for (from, to) in from.iter().zip([&cert, &key]) {
            std::fs::copy(from, to).unwrap();
        }
    };
    rotate([tls.other_client_certificate(), tls.other_client_key()]);
    let url = format!(
        "{}?ca={}&cert={}&key={}",
        server.url(),
        tls.ca().display(),
        cert.display(),
        key.display()
    );
    let registry = registry_redis::RedisRegistry::connect_lazy(&url.parse().unwrap()).unwrap();
    let user = "user.rpc".parse().unwrap();
    let refused = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    rotate([tls.client_certificate(), tls.client_key()]);
    within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn mutual_tls_accepts_only_a_known_client_certificate() {
    let tls = ServerTls::mutual().unwrap();
    let server = start(&tls).await;
    let with = |cert: std::path::PathBuf, key: std::path::PathBuf| {
        let (ca, cert, key) = (tls.ca(), cert, key);
        format!(
            "{}?ca={}&cert={}&key={}",
            server.url(),
            ca.display(),
            cert.display(),
            key.display()
        )
    };
    let known = with(tls.client_certificate(), tls.client_key());
    let registry = connect(&known, RedisOptions::default()).await.unwrap();
    register(&registry, "user.rpc", "1").await;

    let anonymous = format!("{}?ca={}", server.url(), tls.ca().display());
    let stranger = with(tls.other_client_certificate(), tls.other_client_key());
    for url in [anonymous, stranger] {
        let error = connect(&url, RedisOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("`cert` and `key`"), "{error}");
    }
}
