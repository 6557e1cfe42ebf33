//! go-zero configuration files: the file of a go-zero server or client is read unchanged.
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
//! [`ServerConfig`] is the configuration of a server, `ClientConfig` (with the feature `grpc`) that of a client.
//! [`read`] reads a YAML, TOML or JSON file, chosen by its extension. [`Loader`] can also expand `${VARIABLE}`, like
//! go-zero's `conf.UseEnv`. As in go-zero (`core/conf`), field names are case-insensitive and unknown fields are
//! ignored, both go-zero's own (`Log`, `Telemetry`...) and those of the service.
//!
//! `docs/go-zero.md` lists the differences to go-zero. In short: settings that go-zero accepts but does not honour are
//! refused.
//!
//! # Etcd
//!
//! go-zero's section of `core/discov/config.go`. As in go-zero, a nested configuration inherits missing fields from the
//! `Etcd` section of the configurations around it:
//!
//! | field | meaning |
//! | --- | --- |
//! | `Hosts` | required: `host:port` of each member of one cluster; the default port is 2379. If all have the prefix `https://`, TLS is used with the system's certificate authorities |
//! | `Key` | required: the service. Its records are shared with the Go fleet, in the layout `go-zero` |
//! | `ID` | the instance id, if above 0; otherwise the lease id is used |
//! | `User`, `Pass` | credentials, used if both are set |
//! | `CertFile`, `CertKeyFile`, `CACertFile` | PEM files for TLS: our certificate, its key, and the trusted authority. Set all three or none |
//! | `InsecureSkipVerify` | `true` is refused unless `ServiceRegistry.InsecureSkipVerify` is also `true` |
//!
//! If only one of `Hosts` and `Key` is empty, the configuration is `Invalid`; go-zero would silently not register. If
//! both are empty, nothing is registered.
//!
//! # `ServiceRegistry`
//!
//! A section of this crate, which go-zero ignores. Fields that are not in this table are refused:
//!
//! | field | default | meaning |
//! | --- | --- | --- |
//! | `Url` | none | the URL of any registry, such as `redis://127.0.0.1:6379`, to use instead of `Etcd`. Its option `ttl` sets the ttl, which is 10 s otherwise |
//! | `Key` | `Etcd.Key`, else a server's `Name` | the service in that registry |
//! | `AdvertiseOn`, `Interface`, `Cidr` | none | the address that a server publishes: see [`advertise`](crate::advertise) |
//! | `Weight` | 100 | the weight of a server |
//! | `Metadata` | none | the metadata of a server: a map of strings |
//! | `InsecureSkipVerify` | `false` | confirms `Etcd.InsecureSkipVerify`: the identity of etcd is then not verified |
//!
//! # Errors
//!
//! All errors are `Invalid` and name the field, or the line if the syntax is wrong; those of `read` also name the path.
//! No error and no `Debug` output shows a password or a token. For a configuration type of your own, that holds only if
//! a [`Loader`] reads it: other deserializers may quote the text in errors, and parse scalars by other rules.

#[cfg(feature = "grpc")]
mod client;
mod document;
mod etcd;
mod loader;
mod node;
mod own;
mod section;
mod server;
mod value;
mod variables;
mod wrong;
mod yaml;

#[cfg(feature = "grpc")]
pub use self::client::ClientConfig;
pub use self::document::Format;
pub use self::loader::{Loader, from_yaml, read};
pub use self::server::ServerConfig;

use crate::{Error, ErrorKind};

/// Returns the error for a field whose value was refused with `error`.
fn refused(field: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("`{field}` cannot be used")).with_source(error)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
