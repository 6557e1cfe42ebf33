//! TLS: verification of servers and clients.

use crate::support::{claim, instance, name, next, put, within};
use registry_core::{CallOptions, Error, ErrorKind, Registry, Result};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::{Etcd, ServerTls};
use std::path::PathBuf;

async fn connect(etcd: &Etcd, options: &[(&str, PathBuf)]) -> Result<EtcdRegistry> {
    let options: Vec<String> =
        options.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    let url = format!("{}?{}", etcd.url(), options.join("&"));
    within(EtcdRegistry::connect(&url.parse().unwrap())).await
}

/// Returns the texts of all errors in the chain.
fn chain(error: &Error) -> String {
    error.chain().to_string()
}

async fn assert_works(registry: &EtcdRegistry) {
    let (one, user) = (instance("user", "1"), name("user"));
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let mut watch =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    let lease = within(registry.register(&one, &claim(10), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn server_is_trusted_only_through_its_ca() {
    let tls = ServerTls::generate().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    assert_works(&connect(&etcd, &[("ca", tls.ca())]).await.unwrap()).await;

    let error = connect(&etcd, &[("ca", tls.other_ca())]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", chain(&error));
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    // None of the system's authorities signed it.
    let error = connect(&etcd, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", chain(&error));
    // A plain-text client cannot talk to it.
    let plain = etcd.url().replace("etcds://", "etcd://").parse().unwrap();
    let error = within(EtcdRegistry::connect(&plain)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", chain(&error));
}

#[tokio::test]
async fn server_accepts_only_the_right_client_certificate() {
    let tls = ServerTls::mutual().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let with = |cert: PathBuf, key: PathBuf| [("ca", tls.ca()), ("cert", cert), ("key", key)];
    let ours = with(tls.client_certificate(), tls.client_key());
    assert_works(&connect(&etcd, &ours).await.unwrap()).await;

    let others = with(tls.other_client_certificate(), tls.other_client_key());
    for refused in [&others[..], &[("ca", tls.ca())]] {
        // The server closes the connection, and may or may not say why first.
        let kind = connect(&etcd, refused).await.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Denied | ErrorKind::Unavailable), "{kind}");
    }
}

#[tokio::test]
async fn server_name_of_the_url_is_verified() {
    let tls = ServerTls::generate().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let named = |name: &str| [("ca", tls.ca()), ("server_name", PathBuf::from(name))];
    assert_works(&connect(&etcd, &named("localhost")).await.unwrap()).await;
    let error = connect(&etcd, &named("elsewhere.example")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", chain(&error));
}

#[tokio::test]
async fn server_is_not_verified_with_verify_none() {
    let tls = ServerTls::mutual().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let files = |verify: &str| {
        let (ca, cert, key) = (tls.other_ca(), tls.client_certificate(), tls.client_key());
        let verify = ("verify", PathBuf::from(verify));
        [("ca", ca), ("cert", cert), ("key", key), verify]
    };
    assert_works(&connect(&etcd, &files("none")).await.unwrap()).await;
    let error = connect(&etcd, &files("no")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", chain(&error));
    let error = connect(&etcd, &files("none")[..3]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", chain(&error));
}

/// Regression: the files were read once, when the handle was made. After the first certificate had expired, no
/// connection succeeded.
#[tokio::test]
async fn files_are_read_again_for_each_connection() {
    let tls = ServerTls::mutual().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let address = etcd.url().trim_start_matches("etcds://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let renew = |certificate: PathBuf, key: PathBuf, ca: PathBuf| {
        for (from, to) in [(certificate, "cert.pem"), (key, "key.pem"), (ca, "ca.pem")] {
            std::fs::copy(from, path(to)).unwrap();
        }
    };
    let url = format!(
        "etcds://{}?ca={}&cert={}&key={}",
        proxy.address(),
        path("ca.pem").display(),
        path("cert.pem").display(),
        path("key.pem").display()
    );
    let registry = EtcdRegistry::connect_lazy(&url.parse().unwrap()).unwrap();
    let (user, options) = (name("user"), CallOptions::DEFAULT);
    let missing = within(registry.load(&user, &options)).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Invalid, "{}", chain(&missing));
    assert!(chain(&missing).contains("option `ca` cannot be read"), "{}", chain(&missing));

    renew(tls.client_certificate(), tls.client_key(), tls.ca());
    within(registry.load(&user, &options)).await.unwrap();
    for stranger in [true, false] {
        let (certificate, key) = (tls.other_client_certificate(), tls.other_client_key());
        let ca = if stranger { tls.ca() } else { tls.other_ca() };
        renew(certificate, key, ca);
        within(registry.load(&user, &options)).await.expect("the open connection keeps working");
        proxy.cut();
        within(async { while registry.load(&user, &options).await.is_ok() {} }).await;
        std::fs::write(path("ca.pem"), "half of a file").unwrap();
        let half = within(registry.load(&user, &options)).await.unwrap_err();
        assert_eq!(half.kind(), ErrorKind::Unavailable, "{}", chain(&half));
        assert!(chain(&half).contains("option `ca` is not PEM"), "{}", chain(&half));
        renew(tls.client_certificate(), tls.client_key(), tls.ca());
        within(registry.load(&user, &options)).await.unwrap();
    }
    let installed = rustls::crypto::CryptoProvider::get_default();
    assert!(installed.is_none(), "no process-wide provider is installed");
}
