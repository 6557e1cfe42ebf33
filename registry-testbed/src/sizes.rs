//! The sizes of the futures of calls.

use registry_core::{CallOptions, Claim, Instance, Registry};
use registry_testkit::case::within;
use std::time::Duration;

/// Returns the size of the future of each call, in bytes. A future is boxed and moved on each call, so space for
/// rare cases costs every call: on etcd, 14 KiB doubled the instructions of a renewal.
///
/// # Panics
///
/// Panics if the store fails to register an instance or to load its service.
pub async fn call_sizes(registry: &dyn Registry) -> [(&'static str, usize); 7] {
    let address = "10.0.0.1:80".parse().unwrap();
    let one = Instance::from_parts("sizes".parse().unwrap(), "1".parse().unwrap(), address);
    let claim = Claim::new(Duration::from_secs(10)).unwrap();
    let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let now = within(registry.load(one.service(), &CallOptions::DEFAULT)).await.unwrap();
    [
        ("register", size_of_val(&*registry.register(&one, &claim, &CallOptions::DEFAULT))),
        ("holder", size_of_val(&*registry.holder(&one, &CallOptions::DEFAULT))),
        ("keep_alive", size_of_val(&*registry.keep_alive(&lease, &CallOptions::DEFAULT))),
        ("deregister", size_of_val(&*registry.deregister(&lease, &CallOptions::DEFAULT))),
        ("load", size_of_val(&*registry.load(one.service(), &CallOptions::DEFAULT))),
        (
            "watch",
            size_of_val(&*registry.watch(one.service(), now.cursor(), &CallOptions::DEFAULT)),
        ),
        ("services", size_of_val(&*registry.services(&CallOptions::DEFAULT))),
    ]
}
