//! Who calls.

use super::etcd::EtcdSection;
use super::loader::Loader;
use super::own::OwnSection;
use super::section::{Kind, Other, Section};
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
/// | `Endpoints` | none | addresses to call, whatever else is set |
/// | `Target` | none | a [`ChannelTarget`]; what follows is not looked at then |
/// | `ServiceRegistry` | none | the `Url` of any registry, and the service there as `Key`: [see there](super#serviceregistry) |
/// | `Etcd` | that of the configuration around | [see there](super#etcd) |
/// | `App`, `Token` | none | sent with every call as metadata `app` and `token`, if both are set |
/// | `Timeout` | 2000 | how long a call may take, in milliseconds; 0 for as long as it takes |
/// | `NonBlock` | `true` | whether to start although nobody can be reached yet |
///
/// In go-zero's own files it stands under a name, such as `UserRpc`. It implements `Deserialize`, and can be
/// a field of your own:
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

/// go-zero's, in milliseconds.
const DEFAULT_TIMEOUT: i64 = 2000;

/// What go-zero alone reads of `RpcClientConf`, or refuses if it is `null`.
const OTHERS: [Other; 5] = [
    Other::with_default("NonBlock", Kind::Flag),
    Other::with_default("Timeout", Kind::Integer),
    Other::optional("KeepaliveTime", Kind::Duration),
    Other::with_default("Middlewares", Kind::Map),
    Other::with_default("BalancerName", Kind::Text),
];

/// How long to wait for somebody to call, where that is wanted.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

impl ClientConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming what is wrong: [see there](super#errors).
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        Loader::new().parse(Format::Yaml, yaml)
    }

    /// Reads the configuration in a file: [`Loader::read`], where variables are refused.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`from_yaml`](Self::from_yaml), or if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Loader::new().read(path)
    }

    fn new(config: &Section) -> Result<Self> {
        config.check(&OTHERS)?;
        let timeout = config.integer("Timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        let timeout = u64::try_from(timeout).ok().filter(|millis| *millis != 0);
        let app = config.stated("App")?.map(str::to_owned);
        let token = config.stated("Token")?.map(Secret::new);
        Ok(Self {
            credentials: app.zip(token),
            timeout: timeout.map(Duration::from_millis),
            non_block: config.flag("NonBlock")?.unwrap_or(true),
            target: target(config)?,
        })
    }

    /// Whom to call.
    pub fn target(&self) -> &ChannelTarget {
        &self.target
    }

    /// The values of the metadata `app` and `token` of every call.
    pub fn credentials(&self) -> Option<(&str, &Secret)> {
        self.credentials.as_ref().map(|(app, token)| (app.as_str(), token))
    }

    /// How long a call may take; `None` for as long as it takes.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether to start although nobody can be reached yet.
    pub fn non_block(&self) -> bool {
        self.non_block
    }

    /// The options of a channel that sends the credentials and keeps the timeout.
    ///
    /// # Errors
    ///
    /// `Invalid` if `App` or `Token` is no value of gRPC metadata: visible ASCII.
    pub fn channel_options(&self) -> Result<ChannelOptions> {
        let mut options = ChannelOptions::default().with_timeout(self.timeout);
        if let Some((app, token)) = self.credentials() {
            for (key, field, value) in [("app", "App", app), ("token", "Token", token.reveal())] {
                let value = value.parse().map_err(|_| {
                    invalid(format!("`{field}` is sent as gRPC metadata, which is visible ASCII"))
                })?;
                options.metadata.insert(key, value);
            }
        }
        Ok(options)
    }

    /// Connects a channel to the [target](Self::target), with [these options](Self::channel_options).
    ///
    /// With `NonBlock: false` it waits for the registry, and then for an endpoint, for 3 s as in go-zero (`dialTimeout` of
    /// `zrpc/internal/client.go`). Otherwise a call waits for both, so that a process starts while its registry is
    /// down; go-zero exits then.
    ///
    /// # Errors
    ///
    /// Those of [`channel_options`](Self::channel_options) and [`connect_channel_lazy`]; with
    /// `NonBlock: false` also those of [`connect_channel`], and `Unavailable` if there was no endpoint in time.
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
            let message = format!("nobody could be reached in time, within=`{DIAL_TIMEOUT:?}`");
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

/// Whom to call, by go-zero's precedence. As there, what is not used is still of the right type.
fn target(config: &Section) -> Result<ChannelTarget> {
    let endpoints = config.texts("Endpoints")?.unwrap_or_default();
    let target = config.stated("Target")?;
    let (etcd, own) = (EtcdSection::of(config)?, OwnSection::of(config)?);
    if !endpoints.is_empty() {
        // go-zero joins them by commas.
        let parts = endpoints.iter().flat_map(|endpoint| endpoint.split(','));
        let addresses = parts.filter(|part| !part.is_empty()).map(Address::new);
        let addresses: Vec<_> =
            addresses.collect::<Result<_>>().map_err(|error| config.refused("Endpoints", error))?;
        if addresses.is_empty() {
            return Err(config.wrong("Endpoints", "is a list of addresses"));
        }
        return Ok(ChannelTarget::Direct(addresses));
    }
    if let Some(target) = target {
        return target.parse().map_err(|error| config.refused("Target", error));
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
        invalid("a client has one of `Endpoints`, `Target`, `Etcd` and `ServiceRegistry.Url`")
    })?;
    Ok(ChannelTarget::Service { registry, service })
}

#[cfg(test)]
mod tests;
