//! Handles that are used on another runtime than the one on which they were made.

use crate::support::{claim, end_error, instance, name, next, put, withdrawn, within};
use futures_util::FutureExt;
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::Etcd;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Connects, and opens a stream of each kind.
async fn use_all(registry: &EtcdRegistry) -> registry_core::Watch {
    let (one, held, options) = (instance("user", "1"), claim(60), CallOptions::DEFAULT);
    let lease = within(registry.register(&one, &held, &options)).await.unwrap();
    within(registry.keep_alive(&lease, &options)).await.unwrap();
    let now = within(registry.load(&name("user"), &options)).await.unwrap();
    let watch = within(registry.watch(&name("user"), now.cursor(), &options)).await.unwrap();
    within(registry.deregister(&lease, &options)).await.unwrap();
    watch
}

/// Regression: with one host, every call failed forever, since the only connection was never replaced. With two, no
/// watch worked.
#[test]
fn handle_works_on_another_runtime_when_its_own_is_shut_down_or_not_driven() {
    let main = runtime();
    let etcd = main.block_on(within(Etcd::start())).unwrap();
    let host = etcd.url().trim_start_matches("etcd://");
    for hosts in [host.to_owned(), format!("{host},{host}")] {
        for is_dropped in [true, false] {
            let first = runtime();
            let url = format!("etcd://{hosts}").parse().unwrap();
            let registry = first.block_on(within(EtcdRegistry::connect(&url))).unwrap();
            let mut old = first.block_on(use_all(&registry));
            let first = (!is_dropped).then_some(first);
            main.block_on(async {
                if is_dropped {
                    assert_eq!(end_error(&mut old).await, ErrorKind::Unavailable);
                }
                let mut watch = use_all(&registry).await;
                let (two, held) = (instance("user", "2"), claim(60));
                let options = CallOptions::DEFAULT;
                assert_eq!(next(&mut watch).await.changes, [withdrawn("1")]);
                let lease = within(registry.register(&two, &held, &options)).await.unwrap();
                assert_eq!(next(&mut watch).await.changes, [put(&two)]);
                within(registry.deregister(&lease, &options)).await.unwrap();
            });
            drop(first);
        }
    }
}

#[test]
fn call_outside_a_runtime_is_an_error() {
    let registry = EtcdRegistry::connect_lazy(&"etcd://127.0.0.1:1".parse().unwrap()).unwrap();
    let loaded = registry.load(&name("user"), &CallOptions::DEFAULT).now_or_never();
    let error = loaded.expect("the call fails at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}
