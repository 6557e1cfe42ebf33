//! Configuration files of go-zero: the YAML of a go-zero server or client is read as it is.
//!
//! ```yaml
//! Name: user.rpc
//! ListenOn: 0.0.0.0:8081
//! Etcd:
//!   Hosts:
//!     - 127.0.0.1:2379
//!   Key: user.rpc
//! ```
//!
//! [`ServerConfig`] is the configuration of a server, `ClientConfig` (with the feature `grpc`) of a client. As in go-zero (`core/conf`), a field's name counts in any case, and fields that nothing here
//! knows are passed over, be they go-zero's own (`Mode`, `Log`, `CpuThreshold`...) or the service's. A field
//! that is empty or `null` is as good as absent. A `${VARIABLE}` (go-zero's `conf.UseEnv`)
//! is not expanded, and is refused in names, keys and credentials. Not read are TOML, and an `Etcd` that is inherited from an outer level.
//!
//! # Etcd
//!
//! The section that go-zero has in `core/discov/config.go`:
//!
//! | field | meaning |
//! | --- | --- |
//! | `Hosts` | `host:port` of the members of one cluster, the port 2379 unless stated; `http://` in front does not count |
//! | `Key` | the service; what is under it is shared with the fleet in Go, in the layout `go-zero` |
//! | `ID` | the id to register under, if above 0; else it is that of the lease |
//! | `User`, `Pass` | credentials, used if both are set |
//! | `CertFile`, `CertKeyFile` | our certificate and its key, in PEM, for TLS. Without `CACertFile` the system's authorities are trusted; go-zero would go without TLS |
//! | `CACertFile` | whom to trust, for TLS; it may stand alone, which go-zero does not allow |
//! | `InsecureSkipVerify` | `true` is refused: name the authority in `CACertFile` instead |
//!
//! `Hosts` and `Key` go together: one without the other, for which go-zero silently does not register, is
//! `Invalid`.
//!
//! # Errors
//!
//! All are `Invalid` and name the field, and the line where the YAML itself is at fault; those of `read` also
//! name the path. No error and no `Debug` shows a password or a token. Where a configuration of your own has one
//! of these in it, that is so if it is read by [`from_yaml`] or [`read`]: a YAML library may quote the text.

mod any_case;
#[cfg(feature = "grpc")]
mod client;
mod etcd;
mod field;
mod server;
mod yaml;

#[cfg(feature = "grpc")]
pub use self::client::ClientConfig;
pub use self::server::ServerConfig;
pub use self::yaml::{from_yaml, read};

use self::etcd::EtcdSection;
use self::field::{invalid, literal, stated, wrong};
use crate::{Result, ServiceName, Target};

/// The registry that is configured, and the service there: in `Registry`, or else in `Etcd`.
///
/// The service in a `Registry` is the first of `Key`, `Etcd.Key` and `name` that is stated.
fn service(
    registry: Option<&String>,
    key: Option<&String>,
    etcd: &EtcdSection,
    name: Option<&str>,
) -> Result<Option<(Target, ServiceName)>> {
    let Some(url) = stated(registry) else { return etcd.service() };
    let registry = url.parse().map_err(|error| wrong("Registry", error))?;
    let keys = [("Key", literal("Key", key)?), ("Etcd.Key", etcd.key()?), ("Name", name)];
    let key = keys.into_iter().find_map(|(field, key)| Some((field, key?)));
    let (field, key) = key.ok_or_else(|| invalid("`Key` is missing: set it beside `Registry`"))?;
    let service = key.parse().map_err(|error| wrong(field, error))?;
    Ok(Some((registry, service)))
}
