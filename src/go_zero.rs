//! Configuration files of go-zero: the file of a go-zero server or client is read as it is.
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
//! [`ServerConfig`] is the configuration of a server, `ClientConfig` (with the feature `grpc`) of a client. [`read`]
//! reads a file in YAML, TOML or JSON, by its extension, and [`Loader`] also expands `${VARIABLE}`, as go-zero's
//! `conf.UseEnv` does. As in go-zero (`core/conf`), a field's name counts in any case, and fields that nothing here
//! knows are passed over, be they go-zero's own (`Log`, `Telemetry`...) or the service's.
//!
//! What differs from go-zero, and why, is in `docs/go-zero.md`. In short: what go-zero accepts and does not do is refused.
//!
//! # Etcd
//!
//! The section that go-zero has in `core/discov/config.go`. A configuration that stands in another inherits what it
//! lacks of it from the `Etcd` around, as in go-zero:
//!
//! | field | meaning |
//! | --- | --- |
//! | `Hosts` | required: `host:port` of the members of one cluster, the port 2379 unless stated. With `https://` in front of all TLS is used, and the authorities of the system are trusted |
//! | `Key` | required: the service; what is under it is shared with the fleet in Go, in the layout `go-zero` |
//! | `ID` | the id to register under, if above 0; else it is that of the lease |
//! | `User`, `Pass` | credentials, used if both are set |
//! | `CertFile`, `CertKeyFile`, `CACertFile` | our certificate, its key and whom to trust, in PEM, for TLS: all three, or none |
//! | `InsecureSkipVerify` | `true` is refused unless `ServiceRegistry.InsecureSkipVerify` is `true`, too |
//!
//! `Hosts` and `Key` go together: where one of them is empty, for which go-zero silently does not register, it is
//! `Invalid`. If both are, nothing is registered.
//!
//! # `ServiceRegistry`
//!
//! The one section that is ours; go-zero passes it over. A field that is not in this table is refused:
//!
//! | field | default | meaning |
//! | --- | --- | --- |
//! | `Url` | none | the URL of any registry, such as `redis://127.0.0.1:6379`. It is used instead of `Etcd`; its option `ttl` is the ttl, 10 s unless stated |
//! | `Key` | `Etcd.Key`, else a server's `Name` | the service in that registry |
//! | `AdvertiseOn`, `Interface`, `Cidr` | none | which address a server publishes: [`advertise`](crate::advertise) |
//! | `Weight` | 100 | the share of the load of a server |
//! | `Metadata` | none | a map of texts, of a server |
//! | `InsecureSkipVerify` | `false` | whether that of `Etcd` is meant: then anybody may answer for etcd |
//!
//! # Errors
//!
//! All are `Invalid` and name the field, or the line where the format itself is at fault; those of `read` also
//! name the path. No error and no `Debug` shows a password or a token. Where a configuration of your own has one
//! of these in it, that is so if it is read by a [`Loader`]: another library may quote the text, and reads scalars
//! by rules of its own.

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

/// The error of a field whose value is refused with `error`.
fn refused(field: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("`{field}` cannot be used")).with_source(error)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
