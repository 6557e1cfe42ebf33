//! From a URL to a registry: one match.

use crate::{Error, ErrorKind, Registry, Result, Target};
use std::sync::Arc;

/// The schemes that this library has, each with the features that it needs, and whether it is built in.
const SCHEMES: [(&str, &str, bool); 9] = [
    ("mem", "feature `mem`", cfg!(feature = "mem")),
    ("etcd", "feature `etcd`", cfg!(feature = "etcd")),
    ("etcds", ETCDS, cfg!(all(feature = "etcd", feature = "tls"))),
    ("redis", "feature `redis`", cfg!(feature = "redis")),
    ("redis+sentinel", "feature `redis`", cfg!(feature = "redis")),
    ("redis+cluster", "feature `redis`", cfg!(feature = "redis")),
    ("rediss", REDISS, cfg!(all(feature = "redis", feature = "tls"))),
    ("rediss+sentinel", REDISS, cfg!(all(feature = "redis", feature = "tls"))),
    ("rediss+cluster", REDISS, cfg!(all(feature = "redis", feature = "tls"))),
];

const ETCDS: &str = "features `etcd` and `tls`";
const REDISS: &str = "features `redis` and `tls`";

/// Connects to the registry that `url` names: [`connect_target`], from its text.
///
/// # Errors
///
/// `Invalid` if `url` is no URL, and as [`connect_target`].
pub async fn connect(url: &str) -> Result<Arc<dyn Registry>> {
    connect_target(&url.parse()?).await
}

/// Connects to a registry.
///
/// `mem://` makes a new registry each time; the others are shared with whoever names the same servers
/// and prefix. Parts and options of a URL are those of [`Target`] and of the store's own `connect`.
///
/// # Errors
///
/// `Invalid` if a part of the URL is wrong, its scheme is unknown (the error lists those there are) or was
/// not built in (it names the feature to add). `Unavailable` if the server does not answer, `Denied` if
/// it refuses the credentials.
pub async fn connect_target(target: &Target) -> Result<Arc<dyn Registry>> {
    match target.scheme() {
        #[cfg(feature = "mem")]
        "mem" => Ok(Arc::new(registry_mem::MemRegistry::connect(target)?)),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(registry_etcd::EtcdRegistry::connect(target).await?)),
        #[cfg(all(feature = "etcd", feature = "tls"))]
        "etcds" => Ok(Arc::new(registry_etcd::EtcdRegistry::connect(target).await?)),
        #[cfg(feature = "redis")]
        "redis" | "redis+sentinel" | "redis+cluster" => {
            Ok(Arc::new(registry_redis::RedisRegistry::connect(target).await?))
        }
        #[cfg(all(feature = "redis", feature = "tls"))]
        "rediss" | "rediss+sentinel" | "rediss+cluster" => {
            Ok(Arc::new(registry_redis::RedisRegistry::connect(target).await?))
        }
        scheme => Err(not_built_in(scheme)),
    }
}

pub(crate) fn not_built_in(scheme: &str) -> Error {
    let known = SCHEMES.iter().find(|(known, ..)| *known == scheme);
    let message = if let Some((scheme, features, _)) = known {
        format!("`{scheme}://` is not built in: it needs the {features} of service-registry")
    } else {
        let built_in = SCHEMES.iter().filter(|(.., built_in)| *built_in);
        let built_in: Vec<_> = built_in.map(|(scheme, ..)| format!("{scheme}://")).collect();
        format!("unknown scheme `{scheme}://`, built in are: {}", built_in.join(", "))
    };
    Error::new(ErrorKind::Invalid, message)
}
