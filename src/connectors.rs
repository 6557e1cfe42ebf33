//! Connectors of the built-in stores, and the choice of a connector by URL scheme.

use crate::store::{ConnectOptions, Connected, Connector, Registry, Target};
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The schemes that this crate supports, each with the features that it needs.
const SCHEMES: [(&str, &str); 9] = [
    ("mem", "feature `mem`"),
    ("etcd", "feature `etcd`"),
    ("etcds", "features `etcd` and `tls`"),
    ("redis", "feature `redis`"),
    ("redis+sentinel", "feature `redis`"),
    ("redis+cluster", "feature `redis`"),
    ("rediss", REDISS),
    ("rediss+sentinel", REDISS),
    ("rediss+cluster", REDISS),
];

const REDISS: &str = "features `redis` and `tls`";

/// Connects to a registry through the built-in connectors.
pub(crate) async fn registry(target: &Target) -> Result<Arc<dyn Registry>> {
    Ok(connect_by(&built_in(), target, &ConnectOptions::default()).await?.registry().clone())
}

/// Returns a handle to a registry through the built-in connectors, without sending a request.
#[cfg(any(feature = "grpc", feature = "go-zero"))]
pub(crate) fn registry_lazy(target: &Target) -> Result<Arc<dyn Registry>> {
    Ok(connect_lazy_by(&built_in(), target, &ConnectOptions::default())?.registry().clone())
}

/// Returns the connectors of the stores that are built in.
pub(crate) fn built_in() -> Vec<Arc<dyn Connector>> {
    vec![
        #[cfg(feature = "mem")]
        Arc::new(registry_mem::MemConnector),
        #[cfg(feature = "etcd")]
        Arc::new(registry_etcd::EtcdConnector),
        #[cfg(feature = "redis")]
        Arc::new(registry_redis::RedisConnector),
    ]
}

/// Connects through the last of `connectors` that has the scheme of `target`.
pub(crate) async fn connect_by(
    connectors: &[Arc<dyn Connector>],
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connected> {
    connector_of(connectors, target)?.connect(target, options).await
}

/// Returns a handle through the last of `connectors` that has the scheme of `target`, without sending a request.
pub(crate) fn connect_lazy_by(
    connectors: &[Arc<dyn Connector>],
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connected> {
    connector_of(connectors, target)?.connect_lazy(target, options)
}

fn connector_of<'a>(
    connectors: &'a [Arc<dyn Connector>],
    target: &Target,
) -> Result<&'a dyn Connector> {
    let has_scheme =
        |connector: &&Arc<dyn Connector>| connector.schemes().contains(&target.scheme());
    let connector = connectors.iter().rev().find(has_scheme);
    connector.map(|connector| &**connector).ok_or_else(|| no_connector(connectors, target.scheme()))
}

fn no_connector(connectors: &[Arc<dyn Connector>], scheme: &str) -> Error {
    let known = SCHEMES.iter().find(|(known, _)| *known == scheme);
    let message = if let Some((scheme, features)) = known {
        format!("`{scheme}://` is not built in: enable the {features} of service-registry")
    } else {
        let schemes = connectors.iter().flat_map(|connector| connector.schemes());
        let schemes: Vec<_> = schemes.map(|scheme| format!("{scheme}://")).collect();
        format!("unknown scheme `{scheme}://`, known are: {}", schemes.join(", "))
    };
    Error::new(ErrorKind::Invalid, message)
}
