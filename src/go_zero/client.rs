//! The configuration of a client.

use super::etcd::EtcdSection;
use super::loader::Loader;
use super::own::OwnSection;
use super::section::{FieldKind, Section, UnusedField};
use super::{Format, invalid};
use crate::grpc::{Channel, ChannelOptions, ChannelTarget, connect_channel, connect_channel_lazy};
use crate::store::Secret;
use crate::{Address, Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;

/// The configuration of a client, as in go-zero's `RpcClientConf` (`zrpc/config.go`).
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `Endpoints` | none | fixed addresses to call; overrides the fields below |
/// | `Target` | none | a [`ChannelTarget`]; overrides `ServiceRegistry` and `Etcd` |
/// | `ServiceRegistry` | none | the `Url` of any registry and the service as `Key`: see [`ServiceRegistry`](super#serviceregistry); overrides `Etcd` |
/// | `Etcd` | inherited from the enclosing configuration | see [Etcd](super#etcd) |
/// | `App`, `Token` | none | sent with every call as metadata `app` and `token`, if both are set |
/// | `Timeout` | 2000 | the timeout of a call in milliseconds; 0 means none |
/// | `NonBlock` | `true` | whether to start before an endpoint can be reached |
///
/// In go-zero's own files it is nested under a name, such as `UserRpc`. It implements `Deserialize`, so it can be a
/// field of your own configuration:
///
/// ```
/// use serde::Deserialize;
/// use service_registry::go_zero::{self, ClientConfig};
///
/// #[derive(Deserialize)]
/// struct Config {
///     #[serde(rename = "UserRpc")]
///     user_rpc: ClientConfig,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: Config = go_zero::from_yaml(
///     "
/// Name: mall-api
/// UserRpc:
///   Timeout: 500
///   Etcd:
///     Hosts: [127.0.0.1:2379]
///     Key: user.rpc
/// ",
/// )?;
/// let target = config.user_rpc.target();
/// assert_eq!(target.to_string(), "etcd:///127.0.0.1:2379?key=user.rpc");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    target: ChannelTarget,
    credentials: Option<(String, Secret)>,
    timeout: Option<Duration>,
    non_block: bool,
}

/// go-zero's default, in milliseconds.
const DEFAULT_TIMEOUT: i64 = 2000;

/// Fields of `RpcClientConf` whose types are checked as in go-zero. This library uses `NonBlock` and `Timeout`; they
/// are listed because go-zero refuses `null` for them.
const CHECKED_FIELDS: [UnusedField; 5] = [
    UnusedField::with_default("NonBlock", FieldKind::Flag),
    UnusedField::with_default("Timeout", FieldKind::Integer),
    UnusedField::optional("KeepaliveTime", FieldKind::Duration),
    UnusedField::with_default("Middlewares", FieldKind::Map),
    UnusedField::with_default("BalancerName", FieldKind::Text),
];

/// How long to wait for an endpoint if `NonBlock` is `false`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

impl ClientConfig {
    /// Reads a configuration in YAML.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the wrong field or line: see [Errors](super#errors).
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        Loader::new().parse(Format::Yaml, yaml)
    }

    /// Reads a configuration file with [`Loader::read`]; variables are refused.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`from_yaml`](Self::from_yaml), or if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Loader::new().read(path)
    }

    fn new(config: &Section) -> Result<Self> {
        config.check(&CHECKED_FIELDS)?;
        let timeout = config.integer("Timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        let timeout = u64::try_from(timeout).ok().filter(|millis| *millis != 0);
        let app = config.non_empty_text("App")?.map(str::to_owned);
        let token = config.non_empty_text("Token")?.map(Secret::new);
        Ok(Self {
            credentials: app.zip(token),
            timeout: timeout.map(Duration::from_millis),
            non_block: config.flag("NonBlock")?.unwrap_or(true),
            target: target(config)?,
        })
    }

    /// Returns the target to call.
    pub fn target(&self) -> &ChannelTarget {
        &self.target
    }

    /// Returns the values of the metadata `app` and `token` that every call carries, if both are set.
    pub fn credentials(&self) -> Option<(&str, &Secret)> {
        self.credentials.as_ref().map(|(app, token)| (app.as_str(), token))
    }

    /// Returns the timeout of a call, if there is one.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns whether to start before an endpoint can be reached.
    pub fn non_block(&self) -> bool {
        self.non_block
    }

    /// Returns channel options with the credentials and the timeout.
    ///
    /// # Errors
    ///
    /// `Invalid` if `App` or `Token` is not a valid value of gRPC metadata (visible ASCII).
    pub fn channel_options(&self) -> Result<ChannelOptions> {
        let mut options = ChannelOptions::default().with_timeout(self.timeout);
        if let Some((app, token)) = self.credentials() {
            for (key, field, value) in [("app", "App", app), ("token", "Token", token.reveal())] {
                let value = value.parse().map_err(|_| {
                    invalid(format!(
                        "`{field}` has characters other than visible ASCII: it is sent as gRPC metadata"
                    ))
                })?;
                options.metadata.insert(key, value);
            }
        }
        Ok(options)
    }

    /// Connects a channel to the [target](Self::target), with the options of
    /// [`channel_options`](Self::channel_options).
    ///
    /// With `NonBlock: false` it waits for the registry, and then up to 3 s for an endpoint, as in go-zero
    /// (`dialTimeout` in `zrpc/internal/client.go`). Otherwise each call waits for both, so a process can start while
    /// its registry is down; go-zero exits in that case.
    ///
    /// # Errors
    ///
    /// Those of [`channel_options`](Self::channel_options) and [`connect_channel_lazy`]; with `NonBlock: false` also
    /// those of [`connect_channel`], and `Unavailable` if no endpoint could be reached in time.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(&self) -> Result<Channel> {
        let options = self.channel_options()?;
        if self.non_block {
            return connect_channel_lazy(&self.target, options);
        }
        let channel = connect_channel(&self.target, options).await?;
        channel.ready(DIAL_TIMEOUT).await.map_err(|status| {
            let message =
                format!("no endpoint could be reached in time, timeout=`{DIAL_TIMEOUT:?}`");
            Error::new(ErrorKind::Unavailable, message).with_source(status)
        })?;
        Ok(channel)
    }
}

impl<'de> Deserialize<'de> for ClientConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Section::deserialize(deserializer)?;
        Self::new(&config).map_err(|error| serde::de::Error::custom(error.chain()))
    }
}

/// Returns the target, by go-zero's precedence. As in go-zero, unused fields must still have the right type.
fn target(config: &Section) -> Result<ChannelTarget> {
    let endpoints = config.texts("Endpoints")?.unwrap_or_default();
    let target = config.non_empty_text("Target")?;
    let (etcd, own) = (EtcdSection::of(config)?, OwnSection::of(config)?);
    if !endpoints.is_empty() {
        // go-zero joins them by commas.
        let parts = endpoints.iter().flat_map(|endpoint| endpoint.split(','));
        let addresses = parts.filter(|part| !part.is_empty()).map(Address::new);
        let addresses: Vec<_> = addresses
            .collect::<Result<_>>()
            .map_err(|error| config.with_field("Endpoints", error))?;
        if addresses.is_empty() {
            return Err(config.field_error("Endpoints", "contains no address"));
        }
        return Ok(ChannelTarget::Direct(addresses));
    }
    if let Some(target) = target {
        return target.parse().map_err(|error| config.with_field("Target", error));
    }
    let mut place = None;
    let mut skips_verification = false;
    if let Some(own) = &own {
        let key = etcd.as_ref().and_then(EtcdSection::key);
        place = own.place(&[("Etcd.Key", key)])?;
        skips_verification = own.skips_verification()?;
    }
    if let (None, Some(etcd)) = (&place, &etcd) {
        place = etcd.place(skips_verification)?;
    }
    let (registry, service) = place.ok_or_else(|| {
        invalid(
            "the client has no target: set `Endpoints`, `Target`, `Etcd` or `ServiceRegistry.Url`",
        )
    })?;
    Ok(ChannelTarget::Service { registry, service })
}

#[cfg(test)]
mod tests;
